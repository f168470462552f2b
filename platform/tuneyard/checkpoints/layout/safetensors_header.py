"""What a weights file holds, and the hashes of it, read without torch or numpy.

Format: 8 bytes little-endian header length, a JSON header, then the tensors' bytes without gaps
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tuneyard.core.errors import CheckpointError
from tuneyard.core.strict_model import FrozenModel

DTYPE_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("BF16", "F16", "I16", "U16"), 2),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F64", "I64", "U64"), 8),
}
"""Bytes an element of each dtype that a header may name."""

MAX_HEADER_BYTES = 100_000_000
"""The limit of the safetensors library itself; a larger length is a file of another kind."""

CHUNK_BYTES = 4 * 1024 * 1024


class FileEntry(FrozenModel):
    """A file as the manifest knows it."""

    sha256: str
    size_bytes: int


class TensorEntry(FrozenModel):
    """A tensor as the manifest knows it; dtype in safetensors' spelling (BF16), sha256 over its raw bytes."""

    dtype: str
    shape: tuple[int, ...]
    sha256: str


def hash_file(path: Path) -> FileEntry:
    """Size and sha256 of any file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = sum(len(chunk) for chunk in _chunks(file, None, digest))
    return FileEntry(sha256=digest.hexdigest(), size_bytes=size)


def hash_safetensors(path: Path) -> tuple[FileEntry, dict[str, TensorEntry]]:
    """The file's entry and its tensors' entries, in one pass over the bytes.

    Raises CheckpointError if the file is truncated or is not a safetensors file.
    """
    whole = hashlib.sha256()
    tensors = {}
    with path.open("rb") as file:
        header = _read_header(path, file, whole)
        for name, spec in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            start, end = spec["data_offsets"]
            own = hashlib.sha256()
            for _ in _chunks(file, end - start, whole, own):
                pass
            tensors[name] = TensorEntry(dtype=spec["dtype"], shape=tuple(spec["shape"]), sha256=own.hexdigest())
    return FileEntry(sha256=whole.hexdigest(), size_bytes=path.stat().st_size), tensors


def _read_header(path: Path, file: BinaryIO, whole: hashlib._Hash) -> dict[str, dict[str, Any]]:
    """The checked header; leaves `file` at the first tensor's first byte."""
    size = path.stat().st_size
    prefix = file.read(8)
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else MAX_HEADER_BYTES + 1
    if length > MAX_HEADER_BYTES or 8 + length > size:
        raise CheckpointError(f"{path}: truncated, or not a safetensors file ({size} bytes). Copy or export it again.")
    raw = file.read(length)
    whole.update(prefix + raw)
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        promised = _check_layout(header)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise CheckpointError(f"{path}: the safetensors header is broken ({e}). Copy or export the file again.") from e
    if 8 + length + promised != size:
        raise CheckpointError(
            f"{path}: truncated or padded: {size} bytes where its header promises {8 + length + promised}. "
            "Copy or export it again."
        )
    return dict(header)


def _check_layout(header: dict[str, dict[str, Any]]) -> int:
    """The bytes that all tensors take; raises ValueError on a gap, an overlap or an unknown dtype."""
    position = 0
    for name, spec in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, end = spec["data_offsets"]
        if spec["dtype"] not in DTYPE_BYTES:
            raise ValueError(f"{name} has the unknown dtype {spec['dtype']}")
        if start != position or end - start != math.prod(spec["shape"]) * DTYPE_BYTES[spec["dtype"]]:
            raise ValueError(f"{name} lies at bytes {start} to {end}, which does not fit its shape or its neighbour")
        position = end
    return position


def _chunks(file: BinaryIO, length: int | None, *digests: hashlib._Hash) -> Iterator[bytes]:
    """The next `length` bytes (None: all that are left), piece by piece, each fed to the digests."""
    left = length
    while chunk := file.read(CHUNK_BYTES if left is None else min(left, CHUNK_BYTES)):
        for digest in digests:
            digest.update(chunk)
        if left is not None:
            left -= len(chunk)
        yield chunk
