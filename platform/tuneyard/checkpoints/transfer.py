"""Uploads folders to an object store and downloads them, in parallel, resumable, with every downloaded byte hashed.

pyarrow.fs.copy_files is not used: version 25 reports success for uploads that fail while they are closed.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tuneyard.checkpoints.folder_index import FolderIndex
from tuneyard.checkpoints.layout.content_hashes import FileEntry
from tuneyard.core.errors import CheckpointError, StorageError
from tuneyard.storage.folder import StorageFolder

THREADS = 8
CHUNK_BYTES = 8 * 2**20
FLUSH_BYTES = 4 * CHUNK_BYTES
"""Bytes between two flushes of an upload. pyarrow would otherwise buffer the whole file in memory."""

CountBytes = Callable[[int], object]
"""Called with the size of each chunk that was transferred."""


def upload(folder: Path, target: StorageFolder, index: FolderIndex) -> None:
    """Copies the indexed files, then the index. Skips files that the target already has with the right content.

    An interrupted upload can be repeated. Raises CheckpointError if the target holds another finished folder, and
    StorageError if the store refuses a request or cannot be reached.
    """
    existing = target.read(index.name)
    if existing == index.content:
        return
    if existing is not None:
        raise CheckpointError(
            f"{target.location} already exists, and checkpoints are never overwritten. Choose another version."
        )

    def copy(name: str, entry: FileEntry, count: CountBytes) -> None:
        target.with_retries(
            f"{target.location}/{name}", lambda: _upload_file(folder / name, target, name, entry, count)
        )

    _copy_in_parallel(index, copy, f"uploading {folder.name}")
    target.write(index.name, index.content)


def upload_files(folder: Path, target: StorageFolder) -> None:
    """Copies all files of a folder to the target, without an index. Replaces files that the target already has."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        entry = FileEntry(sha256="", size_bytes=path.stat().st_size)
        target.with_retries(f"{target.location}/{name}", partial(_write_object, path, target, name, entry, int))


def download(source: StorageFolder, index: FolderIndex, folder: Path) -> None:
    """Copies the indexed files and the index into `folder`. Continues what an interrupted call left there.

    Raises CheckpointError if a file in the store does not match the index, and StorageError if the store refuses a
    request or cannot be reached.
    """

    def copy(name: str, entry: FileEntry, count: CountBytes) -> None:
        source.with_retries(
            f"{source.location}/{name}", lambda: _download_file(source, name, entry, folder / name, count)
        )

    _copy_in_parallel(index, copy, f"downloading {source.path.rsplit('/', 1)[-1]}")
    (folder / index.name).write_bytes(index.content)


def _copy_in_parallel(index: FolderIndex, copy: Callable[[str, FileEntry, CountBytes], None], title: str) -> None:
    """Calls `copy` for every file, THREADS at a time, with a progress bar on a terminal. Raises the first error."""
    total = sum(entry.size_bytes for entry in index.files.values())
    bar: tqdm[Any] = tqdm(
        total=total, desc=title, unit="B", unit_scale=True, disable=not sys.stderr.isatty(), leave=False
    )
    stop = threading.Event()

    def count(size: int) -> None:
        # Stops the other threads at their next chunk after an error or Ctrl-C.
        if stop.is_set():
            raise StorageError(f"{title} was interrupted. Start the same command again; it continues.")
        bar.update(size)

    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="transfer")
    try:
        # The largest files first, so that no single large file is left at the end.
        ordered = sorted(index.files.items(), key=lambda item: -item[1].size_bytes)
        futures = [pool.submit(copy, name, entry, count) for name, entry in ordered]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        bar.close()


def _upload_file(path: Path, target: StorageFolder, name: str, entry: FileEntry, count: CountBytes) -> None:
    """Uploads one file unless the object already has its content."""
    if target.size_of(name) == entry.size_bytes and _hash_object(target, name) == entry.sha256:
        count(entry.size_bytes)
        return
    _write_object(path, target, name, entry, count)


def _write_object(path: Path, target: StorageFolder, name: str, entry: FileEntry, count: CountBytes) -> None:
    """Uploads one file and compares its size in the store."""
    unflushed = 0
    with (
        path.open("rb") as source,
        target.filesystem.open_output_stream(f"{target.path}/{name}", compression=None) as sink,
    ):
        while chunk := source.read(CHUNK_BYTES):
            sink.write(chunk)
            count(len(chunk))
            unflushed += len(chunk)
            if unflushed >= FLUSH_BYTES:
                sink.flush()
                unflushed = 0
    if (size := target.size_of(name)) != entry.size_bytes:
        raise StorageError(
            f"{target.location}/{name} has {size} bytes in the store after an upload of {entry.size_bytes} bytes. "
            "Start the same command again."
        )


def _hash_object(folder: StorageFolder, name: str) -> str:
    """Returns the sha256 of an object, read from the store."""
    digest = hashlib.sha256()
    with folder.filesystem.open_input_stream(f"{folder.path}/{name}", compression=None) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _download_file(source: StorageFolder, name: str, entry: FileEntry, path: Path, count: CountBytes) -> None:
    """Downloads the missing rest of one file and compares the sha256 of the whole.

    If a wrong file began with bytes of an earlier call, those may be the cause: it is downloaded once more in full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    present = 0
    with path.open("ab+") as sink:
        sink.seek(0)
        while chunk := sink.read(CHUNK_BYTES):
            digest.update(chunk)
            present += len(chunk)
        if present < entry.size_bytes:
            with source.filesystem.open_input_file(f"{source.path}/{name}") as file:
                file.seek(present)
                count(present)
                while chunk := file.read(CHUNK_BYTES):
                    sink.write(chunk)
                    digest.update(chunk)
                    count(len(chunk))
        else:
            count(present)
    if digest.hexdigest() == entry.sha256:
        return
    path.unlink()
    if present:
        _download_file(source, name, entry, path, lambda _: None)
        return
    raise CheckpointError(
        f"{source.location}/{name} does not match the index: its sha256 is {digest.hexdigest()[:12]}…, but the index "
        f"says {entry.sha256[:12]}…. It was damaged or replaced in the store. Upload it again as a new version."
    )
