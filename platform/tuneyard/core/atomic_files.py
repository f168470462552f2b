"""File writes that are complete or absent, even after a crash."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


class FolderSyncError(OSError):
    """The file has its new content, but the folder could not be synced: a power failure may undo the change."""


def write_atomically(path: Path, data: bytes | str, *, mode: int | None = None) -> None:
    """Replaces the file at `path` with `data`. A reader sees the old content or the new content, never a mixture.

    Text is written as UTF-8. `mode` sets the permission bits; None applies the umask. The data and the folder entry
    are synced to the disk before this returns. Raises OSError if the write fails; `path` is then unchanged, except
    after a FolderSyncError.
    """
    with replacing(path, data, mode=mode):
        pass


@contextlib.contextmanager
def replacing(path: Path, data: bytes | str, *, mode: int | None = None) -> Iterator[None]:
    """As write_atomically, but `data` takes its place only at the end of the context, and not if the context raises.

    For what must happen if and only if the file changes: `data` is on the disk when the context begins.
    """
    temporary = _write_beside(path, data, mode)
    try:
        yield
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def create_atomically(path: Path, data: bytes | str, *, mode: int | None = None) -> bool:
    """Creates the file unless it exists; returns whether this call created it.

    Of several processes that try at once, one creates the file, and no reader ever sees a part of it. Otherwise as
    write_atomically.
    """
    temporary = _write_beside(path, data, mode)
    try:
        # Unlike a rename, a link fails where the name is taken.
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return True


def _write_beside(path: Path, data: bytes | str, mode: int | None) -> Path:
    """Writes the data to a new hidden file beside `path`, flushed to the disk."""
    content = data.encode("utf-8") if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _sync_folder(folder: Path) -> None:
    """Raises FolderSyncError."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as e:
        raise FolderSyncError(e.errno, e.strerror, str(folder)) from e
