"""The GGUF file that an engine on this node loads instead of a checkpoint: made once per node, in the node's cache."""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import ValidationError

from tuneyard.checkpoints.gguf.gguf_types import GgufType
from tuneyard.checkpoints.gguf.writing import Progress, gguf_size, write_gguf
from tuneyard.checkpoints.layout.content_hashes import FileEntry, hash_file
from tuneyard.checkpoints.manifest import MANIFEST_NAME, read_manifest
from tuneyard.checkpoints.node_cache import use_entry
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.core.atomic_files import write_atomically

FORM = 1
"""Raise it when write_gguf writes other bytes, so that nodes do not use what an earlier version wrote."""

FILE_NAME = "model.gguf"

ENTRY_NAME = f"{FILE_NAME}.json"
"""The file with the size and the hash of FILE_NAME, as it was written: a FileEntry."""


def local_gguf(checkpoint: Path, kind: GgufType, *, on_progress: Progress | None = None) -> Path:
    """The GGUF file of a checkpoint folder, without the text of tokens, in this node's cache.

    It stays until this process ends or releases its folder (node_cache.release). The first process of a node that
    needs it makes it, after it has checked every byte of the checkpoint against the manifest; others wait. The file's
    folder is named after the digest of the manifest, which holds the digests of all files. Each process compares every
    byte with the hash of what was written, because llama.cpp answers from damaged weights without an error. A file that
    is damaged is made anew.

    Raises CheckpointError for a checkpoint without a manifest, one that its manifest does not prove or one that
    llama.cpp cannot run, StorageFullError, and MissingDependencyError without the package gguf.
    """
    read_manifest(checkpoint)
    digest = hash_file(checkpoint / MANIFEST_NAME).sha256

    def fill(folder: Path) -> None:
        validate_hf_checkpoint(checkpoint)
        for left_over in folder.iterdir():
            shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink()
        write_gguf(checkpoint, folder / FILE_NAME, kind, on_progress=on_progress, with_text=False)
        write_atomically(folder / ENTRY_NAME, hash_file(folder / FILE_NAME).model_dump_json())

    name = f"{digest[:32]}-{kind}-{FORM}"
    return use_entry(name, gguf_size(checkpoint, kind), fill, is_intact=_is_as_written) / FILE_NAME


def _is_as_written(folder: Path) -> bool:
    path = folder / FILE_NAME
    try:
        written = FileEntry.model_validate_json((folder / ENTRY_NAME).read_bytes())
        return path.stat().st_size == written.size_bytes and hash_file(path) == written
    except (OSError, ValidationError):  # a missing file, or one that the disk cannot read
        return False
