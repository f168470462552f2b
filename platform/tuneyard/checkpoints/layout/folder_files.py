"""The files of a checkpoint folder, without what a download tool keeps beside them for itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

BOOKKEEPING = (PurePosixPath(".cache/huggingface"), PurePosixPath(".git"))
"""Folders of `hf download --local-dir` and of git. No loader reads them, and their tools change them at any time."""


def checkpoint_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yields each file's path inside the folder, separated by `/`, and its path; sorted, without BOOKKEEPING."""
    for path in sorted(folder.rglob("*")):
        name = PurePosixPath(path.relative_to(folder).as_posix())
        if path.is_file() and not any(name.is_relative_to(kept) for kept in BOOKKEEPING):
            yield str(name), path
