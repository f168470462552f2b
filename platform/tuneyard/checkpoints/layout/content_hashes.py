"""sha256 of files and tensors: the entries that a manifest lists, and the digest that identifies weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from tuneyard.checkpoints.layout.safetensors_header import read_header
from tuneyard.core.strict_model import FrozenModel

CHUNK_BYTES = 4 * 1024 * 1024


class FileEntry(FrozenModel):
    """A file in a manifest."""

    sha256: str
    size_bytes: int


class TensorEntry(FrozenModel):
    """A tensor in a manifest: dtype as safetensors spells it (`BF16`), sha256 of its raw bytes."""

    dtype: str
    shape: tuple[int, ...]
    sha256: str


def hash_file(path: Path) -> FileEntry:
    """Returns the size and sha256 of any file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = sum(len(chunk) for chunk in _read_chunks(file, None, digest))
    return FileEntry(sha256=digest.hexdigest(), size_bytes=size)


def hash_safetensors(
    path: Path, observe: Callable[[str, str, bytes], None] | None = None
) -> tuple[FileEntry, dict[str, TensorEntry]]:
    """Returns the entry of a safetensors file and the entries of its tensors, by name. Reads the file once.

    `observe` is called with name, dtype and the next whole elements of each tensor, in order. Raises CheckpointError if
    the file is truncated or is not a safetensors file.
    """
    file_digest = hashlib.sha256()
    tensors = {}
    with path.open("rb") as file:
        header, header_bytes = read_header(path, file)
        file_digest.update(header_bytes)
        for name, spec in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            start, end = spec["data_offsets"]
            tensor_digest = hashlib.sha256()
            for chunk in _read_chunks(file, end - start, file_digest, tensor_digest):
                if observe is not None:
                    observe(name, spec["dtype"], chunk)
            tensors[name] = TensorEntry(
                dtype=spec["dtype"], shape=tuple(spec["shape"]), sha256=tensor_digest.hexdigest()
            )
    return FileEntry(sha256=file_digest.hexdigest(), size_bytes=path.stat().st_size), tensors


def table_digest(tensors: Mapping[str, TensorEntry]) -> str:
    """The identity of weights: sha256 of the sorted table of tensor name, dtype, shape and sha256.

    Equal weights have equal digests, whatever files they are split into.
    """
    table = [[name, tensor.dtype, list(tensor.shape), tensor.sha256] for name, tensor in sorted(tensors.items())]
    return hashlib.sha256(json.dumps(table, separators=(",", ":")).encode()).hexdigest()


def _read_chunks(file: BinaryIO, length: int | None, *digests: hashlib._Hash) -> Iterator[bytes]:
    """Yields the next `length` bytes of a file in chunks and updates the digests. None reads to the end."""
    remaining = length
    while chunk := file.read(CHUNK_BYTES if remaining is None else min(remaining, CHUNK_BYTES)):
        for digest in digests:
            digest.update(chunk)
        if remaining is not None:
            remaining -= len(chunk)
        yield chunk
