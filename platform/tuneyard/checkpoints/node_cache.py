"""Checkpoints of an object store on this node's disk: each once, named by its content, fetched by one process."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

from platformdirs import user_cache_path

from tuneyard.checkpoints.transfer import Index, download
from tuneyard.core.errors import ConfigError, StorageFullError
from tuneyard.core.home import absolute_path
from tuneyard.storage.folder import StorageFolder, is_uri

GIB = 2**30
SPARE_BYTES = GIB
"""Left free on the disk."""

_in_use: dict[Path, IO[bytes]] = {}
"""Entries that this process uses, with the shared lock on each: none of them is evicted while it lives."""


def cache_folder() -> Path:
    """`$TUNEYARD_CACHE`, or the user's cache folder; on the node's own disk."""
    return absolute_path(os.environ.get("TUNEYARD_CACHE") or user_cache_path("tuneyard"))


def local_folder(location: str, *, weights: bool = True) -> Path:
    """The folder itself where it lies on a mounted disk, else this node's copy, proved against its index.

    A copy is fetched once per node, whoever asks; it is kept as long as this process lives, then until room is needed.
    `weights=False` leaves the .safetensors out, for who only needs config, tokenizer and manifest. Raises
    CheckpointError, StorageError, or StorageFullError when the disk has no room even without the other copies.
    """
    if not is_uri(location):
        return Path(location)
    source = StorageFolder.open(location)
    index = Index.read(source)
    entry = cache_folder() / "checkpoints" / (index.digest[:32] if weights else f"{index.digest[:32]}-small")
    if not weights:
        index = replace(index, files={n: e for n, e in index.files.items() if not n.endswith(".safetensors")})
    entry.parent.mkdir(parents=True, exist_ok=True)
    if entry not in _in_use:
        with ExitStack() as stack:
            used = stack.enter_context(_lock_path(entry).open("ab+"))
            # From here on nobody evicts it, there or on its way.
            fcntl.flock(used, fcntl.LOCK_SH)
            with entry.with_name(f"{entry.name}.fetch").open("ab+") as fetching:
                fcntl.flock(fetching, fcntl.LOCK_EX)
                if not entry.is_dir():
                    _fetch(source, index, entry)
            _in_use[entry] = used
            stack.pop_all()
    os.utime(_lock_path(entry))
    return entry


def release(folder: Path) -> None:
    """This process does not use the copy any more."""
    if (file := _in_use.pop(folder, None)) is not None:
        file.close()


def _fetch(source: StorageFolder, index: Index, entry: Path) -> None:
    partial = entry.with_name(f"{entry.name}.partial")
    _make_room(entry, sum(file.size_bytes for file in index.files.values()), partial)
    partial.mkdir(exist_ok=True)
    download(source, index, partial)
    partial.rename(entry)


def _make_room(entry: Path, needed: int, partial: Path) -> None:
    """Removes the copies that were not used for longest, none that a process uses, until the new one fits."""
    limit = os.environ.get("TUNEYARD_CACHE_GIB")
    try:
        most = float(limit) * GIB if limit else float("inf")
    except ValueError as e:
        raise ConfigError(f"TUNEYARD_CACHE_GIB={limit}: expected a number of GiB.") from e
    there = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
    others = sorted(
        (path for path in entry.parent.iterdir() if path.is_dir() and path not in (entry, partial)), key=_last_use
    )
    sizes = {path: sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) for path in others}
    for path in others:
        if _fits(entry.parent, needed - there, sum(sizes.values()) + needed, most):
            return
        with _alone(_entry_of(path)) as is_free:
            if is_free:
                # Cut short, it is a download to go on with, and not an entry.
                doomed = path.with_name(f"{_entry_of(path).name}.partial")
                if path != doomed:
                    shutil.rmtree(doomed, ignore_errors=True)
                    path.rename(doomed)
                shutil.rmtree(doomed)
                sizes.pop(path)
    if not _fits(entry.parent, needed - there, sum(sizes.values()) + needed, most):
        free = shutil.disk_usage(entry.parent).free
        raise StorageFullError(
            f"{entry.parent}: {free / GIB:.1f} GiB free, {needed / GIB:.1f} GiB needed for a copy, and "
            f"nothing left there that no process uses (limit: {limit or 'none'}). Set TUNEYARD_CACHE to a larger disk, "
            "or TUNEYARD_CACHE_GIB higher."
        )


def _fits(folder: Path, more: int, total: float, most: float) -> bool:
    return total <= most and shutil.disk_usage(folder).free - more >= SPARE_BYTES


def _last_use(path: Path) -> float:
    lock = _lock_path(_entry_of(path))
    return lock.stat().st_mtime if lock.exists() else 0.0


@contextmanager
def _alone(entry: Path) -> Iterator[bool]:
    """Whether no process uses the entry, and none will inside."""
    with _lock_path(entry).open("ab+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _entry_of(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".partial"))


def _lock_path(entry: Path) -> Path:
    return entry.with_name(f"{entry.name}.lock")
