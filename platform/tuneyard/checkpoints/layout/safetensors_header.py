"""Reads and checks the header of a safetensors file, without torch or numpy.

Format: an 8-byte little-endian header length, a JSON header, then the bytes of the tensors without gaps
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any, BinaryIO

from tuneyard.core.errors import CheckpointError
from tuneyard.core.wording import printable, short_repr

DTYPE_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("BF16", "F16", "I16", "U16"), 2),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F64", "I64", "U64"), 8),
}
"""Bytes per element of each dtype that a header may name."""

MAX_HEADER_BYTES = 16 * 2**20
"""Longest header that is read: room for 100,000 tensors, where gpt-oss-120b has 600. The safetensors library reads up
to 100 MB, which would be gigabytes of Python's objects."""

MAX_NAME_CHARACTERS = 500
"""Length of a tensor's name. Names are printed in messages."""


def read_header(path: Path, file: BinaryIO) -> tuple[dict[str, dict[str, Any]], bytes]:
    """Returns dtype, shape and data_offsets of each tensor, and the raw bytes that were read.

    `file` is `path`, opened at its start; afterwards it stands at the first byte of the first tensor. Raises
    CheckpointError if the file is truncated, has gaps or is not a safetensors file.
    """
    size = path.stat().st_size
    prefix = file.read(8)
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else MAX_HEADER_BYTES + 1
    if length > MAX_HEADER_BYTES or 8 + length > size:
        raise CheckpointError(
            f"{path} is truncated or is not a safetensors file ({size} bytes; its header may have {MAX_HEADER_BYTES:,} "
            "bytes). Copy or export it again."
        )
    raw = file.read(length)
    try:
        # Not bytes: those json would also take in UTF-16, and the safetensors library would not.
        header = json.loads(raw.decode("utf-8"))
        if not isinstance(header, dict):
            raise ValueError("it is no object")
        _check_metadata(header.pop("__metadata__", None))
        data_bytes = _check_offsets(header)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise CheckpointError(f"{path}: the safetensors header is broken ({e}). Copy or export the file again.") from e
    if 8 + length + data_bytes != size:
        raise CheckpointError(
            f"{path} is truncated or padded: it has {size} bytes, but its header promises {8 + length + data_bytes}. "
            "Copy or export it again."
        )
    return dict(header), prefix + raw


def _check_metadata(metadata: object) -> None:
    """Raises ValueError for metadata that the safetensors library or transformers refuses."""
    if metadata is None:
        return
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("__metadata__ is not an object of strings")
    if metadata.get("format", "pt") != "pt":
        raise ValueError(f"its tensors are those of {short_repr(metadata['format'])}, not of PyTorch (pt)")


def _check_offsets(header: dict[str, dict[str, Any]]) -> int:
    """Returns the bytes of all tensors together.

    Raises ValueError or TypeError for a gap, an overlap, an unknown dtype or a number that is no size.
    """
    position = 0
    for name, spec in header.items():
        if len(name) > MAX_NAME_CHARACTERS or printable(name) != name:
            raise ValueError(f"{short_repr(name)} is no name of a tensor")
        numbers = [*spec["shape"], *spec["data_offsets"]]
        if not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
            raise ValueError(f"{name} has the shape {short_repr(spec['shape'])}, {short_repr(spec['data_offsets'])}")
    for name, spec in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, end = spec["data_offsets"]
        if spec["dtype"] not in DTYPE_BYTES:
            raise ValueError(f"{name} has the unknown dtype {short_repr(spec['dtype'])}")
        if start != position or end - start != math.prod(spec["shape"]) * DTYPE_BYTES[spec["dtype"]]:
            raise ValueError(f"{name} is at bytes {start} to {end}, which does not match its shape or its neighbour")
        position = end
    return position
