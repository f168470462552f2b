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

DTYPE_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("BF16", "F16", "I16", "U16"), 2),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F64", "I64", "U64"), 8),
}
"""Bytes per element of each dtype that a header may name."""

MAX_HEADER_BYTES = 100_000_000
"""The limit of the safetensors library. A file that claims a longer header is not a safetensors file."""


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
            f"{path} is truncated or is not a safetensors file ({size} bytes). Copy or export it again."
        )
    raw = file.read(length)
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        data_bytes = _check_offsets(header)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise CheckpointError(f"{path}: the safetensors header is broken ({e}). Copy or export the file again.") from e
    if 8 + length + data_bytes != size:
        raise CheckpointError(
            f"{path} is truncated or padded: it has {size} bytes, but its header promises {8 + length + data_bytes}. "
            "Copy or export it again."
        )
    return dict(header), prefix + raw


def _check_offsets(header: dict[str, dict[str, Any]]) -> int:
    """Returns the bytes of all tensors together. Raises ValueError for a gap, an overlap or an unknown dtype."""
    position = 0
    for name, spec in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, end = spec["data_offsets"]
        if spec["dtype"] not in DTYPE_BYTES:
            raise ValueError(f"{name} has the unknown dtype {spec['dtype']}")
        if start != position or end - start != math.prod(spec["shape"]) * DTYPE_BYTES[spec["dtype"]]:
            raise ValueError(f"{name} is at bytes {start} to {end}, which does not match its shape or its neighbour")
        position = end
    return position
