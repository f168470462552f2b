"""What this node's disk keeps of checkpoints: copies from an object store, and files that engines load instead of them.

Each entry is a folder named after the digest of what it was made from, and is made once per node, whatever process
needs it. Each process that uses an entry holds a shared lock on it; the entry that was unused for longest is evicted
when another one needs its space.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

from platformdirs import user_cache_path

from tuneyard.checkpoints.folder_index import FolderIndex
from tuneyard.checkpoints.transfer import download
from tuneyard.core.errors import ConfigError, StorageFullError
from tuneyard.core.home import absolute_path
from tuneyard.core.resources import GIB
from tuneyard.storage.folder import StorageFolder
from tuneyard.storage.location import is_uri

SPARE_BYTES = GIB
"""Free space that the cache leaves on the disk."""

_in_use: dict[Path, IO[bytes]] = {}
"""The copies that this process uses, each with the file that holds its shared lock. They are not evicted."""


def cache_folder() -> Path:
    """`$TUNEYARD_CACHE`, or the user's cache folder. It must be on a disk of the node itself."""
    return absolute_path(os.environ.get("TUNEYARD_CACHE") or user_cache_path("tuneyard"))


def local_folder(location: str, *, weights: bool = True) -> Path:
    """Returns a checkpoint as a folder: `location` itself on a mounted disk, else this node's verified copy.

    The copy stays until this process ends or releases it. `weights=False` omits the .safetensors files, for callers
    that need only config, tokenizer and manifest. Raises CheckpointError or StorageError if it cannot be downloaded,
    and StorageFullError if it does not fit even after evicting every unused copy.
    """
    if not is_uri(location):
        return Path(location)
    source = StorageFolder.open(location)
    index = FolderIndex.read(source)
    name = index.digest[:32] if weights else f"{index.digest[:32]}-small"
    if not weights:
        index = replace(index, files={n: e for n, e in index.files.items() if not n.endswith(".safetensors")})
    size_bytes = sum(file.size_bytes for file in index.files.values())
    return use_entry(name, size_bytes, lambda partial: download(source, index, partial))


def use_entry(
    name: str, size_bytes: int, fill: Callable[[Path], None], *, is_intact: Callable[[Path], bool] = lambda _: True
) -> Path:
    """The cache's folder `name`, which stays until this process ends or releases it.

    If this node does not have it, `fill` makes its content in an empty folder, or in one with what an interrupted call
    left; processes that need it meanwhile wait. A folder that is not `is_intact` is made anew; processes that use it
    keep the files that they have open. Raises StorageFullError if `size_bytes` do not fit even after evicting every
    unused entry.
    """
    entry = cache_folder() / "checkpoints" / name
    entry.parent.mkdir(parents=True, exist_ok=True)
    if entry not in _in_use:
        with ExitStack() as stack:
            use_lock = stack.enter_context(_lock_path(entry).open("ab+"))
            # From here on no process evicts the entry, whether it is complete or still being made.
            fcntl.flock(use_lock, fcntl.LOCK_SH)
            with entry.with_name(f"{entry.name}.fetch").open("ab+") as fill_lock:
                fcntl.flock(fill_lock, fcntl.LOCK_EX)
                if entry.is_dir() and not is_intact(entry):
                    _remove_copy(entry)
                if not entry.is_dir():
                    _fill_entry(entry, size_bytes, fill)
            _in_use[entry] = use_lock
            stack.pop_all()
    os.utime(_lock_path(entry))
    return entry


def release(folder: Path) -> None:
    """Ends this process's use of a copy, so that it may be evicted."""
    if (use_lock := _in_use.pop(folder, None)) is not None:
        use_lock.close()


def _fill_entry(entry: Path, size_bytes: int, fill: Callable[[Path], None]) -> None:
    partial = entry.with_name(f"{entry.name}.partial")
    _evict_until_fits(entry, size_bytes, partial)
    partial.mkdir(exist_ok=True)
    fill(partial)
    partial.rename(entry)


def _evict_until_fits(entry: Path, needed_bytes: int, partial: Path) -> None:
    """Removes unused copies, least recently used first, until the new one fits.

    `partial` holds what an interrupted download of `entry` already wrote. Raises StorageFullError if it does not fit
    after every unused copy is removed.
    """
    limit = os.environ.get("TUNEYARD_CACHE_GIB")
    try:
        max_bytes = float(limit) * GIB if limit else float("inf")
    except ValueError as e:
        raise ConfigError(f"TUNEYARD_CACHE_GIB is {limit!r}, but must be a number of GiB, such as 500.") from e
    missing_bytes = needed_bytes - _size_of(partial)
    others = sorted(
        (path for path in entry.parent.iterdir() if path.is_dir() and path not in (entry, partial)), key=_last_use
    )
    sizes = {path: _size_of(path) for path in others}
    for path in others:
        if _fits(entry.parent, missing_bytes, sum(sizes.values()) + needed_bytes, max_bytes):
            return
        with _try_exclusive_lock(_entry_of(path)) as is_locked:
            if is_locked:
                _remove_copy(path)
                sizes.pop(path)
    if not _fits(entry.parent, missing_bytes, sum(sizes.values()) + needed_bytes, max_bytes):
        free = shutil.disk_usage(entry.parent).free
        raise StorageFullError(
            f"{entry.parent} has {free / GIB:.1f} GiB free, but a copy needs {needed_bytes / GIB:.1f} GiB "
            f"(TUNEYARD_CACHE_GIB: {limit or 'no limit'}), and every remaining copy is in use. Set TUNEYARD_CACHE to a "
            "folder on a larger disk, or raise TUNEYARD_CACHE_GIB."
        )


def _remove_copy(path: Path) -> None:
    """Removes a copy. If this is interrupted, the rest counts as an interrupted download, not as a copy."""
    partial = path.with_name(f"{_entry_of(path).name}.partial")
    if path != partial:
        shutil.rmtree(partial, ignore_errors=True)
        path.rename(partial)
    shutil.rmtree(partial)


def _fits(folder: Path, missing_bytes: int, total_bytes: float, max_bytes: float) -> bool:
    return total_bytes <= max_bytes and shutil.disk_usage(folder).free - missing_bytes >= SPARE_BYTES


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _last_use(path: Path) -> float:
    """Time of the last use in seconds since the epoch; 0 if unknown."""
    lock = _lock_path(_entry_of(path))
    return lock.stat().st_mtime if lock.exists() else 0.0


@contextmanager
def _try_exclusive_lock(entry: Path) -> Iterator[bool]:
    """Yields whether no process uses the entry; if so, none can begin to use it inside the context."""
    with _lock_path(entry).open("ab+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _entry_of(path: Path) -> Path:
    """The finished copy that a folder is, or that an interrupted download was meant to become."""
    return path.with_name(path.name.removesuffix(".partial"))


def _lock_path(entry: Path) -> Path:
    return entry.with_name(f"{entry.name}.lock")
