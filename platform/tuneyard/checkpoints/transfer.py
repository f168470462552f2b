"""Folders to and from an object store: in parallel, resumed, the index last; what is fetched is hashed, every byte.

Not pyarrow.fs.copy_files: version 25 returns without an error from uploads that failed while they were being closed.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from tuneyard.checkpoints.layout.safetensors_header import FileEntry, hash_file
from tuneyard.checkpoints.manifest import MANIFEST_NAME, CheckpointManifest
from tuneyard.core.errors import CheckpointError, StorageError
from tuneyard.storage.folder import StorageFolder

LISTING_NAME = "listing.json"
"""The index of a folder that is no checkpoint."""

THREADS = 8
CHUNK_BYTES = 8 * 2**20
FLUSHED_BYTES = 4 * CHUNK_BYTES

Count = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Index:
    """What a folder holds: its files, and the text of the index itself, which is written last."""

    name: str
    content: bytes
    files: Mapping[str, FileEntry]

    @property
    def digest(self) -> str:
        """sha256 of the index: what the folder is, byte for byte."""
        return hashlib.sha256(self.content).hexdigest()

    @classmethod
    def of_checkpoint(cls, folder: Path) -> Index:
        """That of a published checkpoint."""
        content = (folder / MANIFEST_NAME).read_bytes()
        return cls(MANIFEST_NAME, content, CheckpointManifest.model_validate_json(content).files)

    @classmethod
    def of_files(cls, folder: Path) -> Index:
        """Of any folder: its files are hashed now."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = {path.relative_to(folder).as_posix(): hash_file(path) for path in paths}
        content = json.dumps({name: entry.model_dump() for name, entry in files.items()}, indent=1).encode()
        return cls(LISTING_NAME, content, files)

    @classmethod
    def read(cls, folder: StorageFolder) -> Index:
        """That of a folder on a store. Raises CheckpointError when there is none: it is not finished, or not there."""
        for index_name, parse in ((MANIFEST_NAME, _manifest_files), (LISTING_NAME, _listed_files)):
            if (content := folder.read(index_name)) is None:
                continue
            try:
                found = parse(content)
            except (ValueError, TypeError, AttributeError) as e:
                raise CheckpointError(f"{folder.location}/{index_name}: not an index of files: {e}") from e
            for name in found:
                # It says where files are written here.
                if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                    raise CheckpointError(f"{folder.location}/{index_name}: names {name!r}, which lies outside of it.")
            return cls(index_name, content, found)
        raise CheckpointError(
            f"{folder.location}: no finished checkpoint there (no {MANIFEST_NAME}, which is written last). "
            "Its upload was cut off, or it was not made by Tuneyard: tuneyard models copy FOLDER URI"
        )


def _manifest_files(content: bytes) -> Mapping[str, FileEntry]:
    return CheckpointManifest.model_validate_json(content).files


def _listed_files(content: bytes) -> Mapping[str, FileEntry]:
    return {name: FileEntry(**entry) for name, entry in json.loads(content).items()}


def upload(folder: Path, target: StorageFolder, index: Index) -> None:
    """Copies the indexed files, then the index; what stands there already with the right content stays.

    Raises CheckpointError when another finished folder is there, StorageError when the store refuses or stays away.
    """
    there = target.read(index.name)
    if there == index.content:
        return
    if there is not None:
        raise CheckpointError(
            f"{target.location}: already there, and checkpoints are never overwritten. Choose another version."
        )

    def copy(name: str, entry: FileEntry, count: Count) -> None:
        target.patiently(f"{target.location}/{name}", lambda: _upload_file(folder / name, target, name, entry, count))

    _each_file(index, copy, f"uploading {folder.name}")
    target.write(index.name, index.content)


def upload_files(folder: Path, target: StorageFolder) -> None:
    """Copies all files of a folder into one on a store, without an index, over what is there."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        entry = FileEntry(sha256="", size_bytes=path.stat().st_size)
        target.patiently(f"{target.location}/{name}", partial(_write_object, path, target, name, entry, int))


def download(source: StorageFolder, index: Index, folder: Path) -> None:
    """Copies the indexed files and the index into `folder`, going on where an earlier call stopped.

    Raises CheckpointError when a file on the store is not what the index says.
    """

    def copy(name: str, entry: FileEntry, count: Count) -> None:
        source.patiently(f"{source.location}/{name}", lambda: _download_file(source, name, entry, folder / name, count))

    _each_file(index, copy, f"fetching {source.path.rsplit('/', 1)[-1]}")
    (folder / index.name).write_bytes(index.content)


def _each_file(index: Index, copy: Callable[[str, FileEntry, Count], None], what: str) -> None:
    total = sum(entry.size_bytes for entry in index.files.values())
    bar: tqdm[Any] = tqdm(
        total=total, desc=what, unit="B", unit_scale=True, disable=not sys.stderr.isatty(), leave=False
    )
    stop = threading.Event()

    def count(size: int) -> None:
        """Called for every chunk, so that the others end soon when one fails or the user does not want to wait."""
        if stop.is_set():
            raise StorageError(f"{what} was interrupted.")
        bar.update(size)

    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="transfer")
    try:
        # The largest first, so that none is left alone at the end.
        ordered = sorted(index.files.items(), key=lambda item: -item[1].size_bytes)
        futures = [pool.submit(copy, name, entry, count) for name, entry in ordered]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        bar.close()


def _upload_file(path: Path, target: StorageFolder, name: str, entry: FileEntry, count: Count) -> None:
    if target.size_of(name) == entry.size_bytes and _hash_object(target, name) == entry.sha256:
        count(entry.size_bytes)
        return
    _write_object(path, target, name, entry, count)


def _write_object(path: Path, target: StorageFolder, name: str, entry: FileEntry, count: Count) -> None:
    waiting = 0
    with (
        path.open("rb") as source,
        target.filesystem.open_output_stream(f"{target.path}/{name}", compression=None) as sink,
    ):
        while chunk := source.read(CHUNK_BYTES):
            sink.write(chunk)
            count(len(chunk))
            waiting += len(chunk)
            if waiting >= FLUSHED_BYTES:
                # pyarrow takes any amount into memory, faster than the network gives it away.
                sink.flush()
                waiting = 0
    if (size := target.size_of(name)) != entry.size_bytes:
        raise StorageError(
            f"{target.location}/{name}: {size} bytes on the store after an upload of {entry.size_bytes}. "
            "Start the same command again."
        )


def _hash_object(folder: StorageFolder, name: str) -> str:
    digest = hashlib.sha256()
    with folder.filesystem.open_input_stream(f"{folder.path}/{name}", compression=None) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _download_file(source: StorageFolder, name: str, entry: FileEntry, path: Path, count: Count) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    have = 0
    with path.open("ab+") as sink:
        sink.seek(0)
        while chunk := sink.read(CHUNK_BYTES):
            digest.update(chunk)
            have += len(chunk)
        began_with = have
        if have < entry.size_bytes:
            with source.filesystem.open_input_file(f"{source.path}/{name}") as file:
                file.seek(have)
                count(have)
                while chunk := file.read(CHUNK_BYTES):
                    sink.write(chunk)
                    digest.update(chunk)
                    count(len(chunk))
        else:
            count(have)
    if digest.hexdigest() != entry.sha256:
        path.unlink()
        if began_with:
            # What an earlier call left may be the cause.
            _download_file(source, name, entry, path, lambda _: None)
            return
        raise CheckpointError(
            f"{source.location}/{name}: what was read is not what the index says (sha256 {digest.hexdigest()[:12]}…, "
            f"not {entry.sha256[:12]}…): damaged on the store, or replaced. Upload it again as a new version."
        )
