"""The rows of a dataset at any location, read one at a time, so that memory does not grow with the dataset.

A location is a file (JSONL, JSON, CSV or Parquet, also compressed with gzip or zstd), a folder of such files, or a
Hugging Face dataset saved to disk; each on a mounted disk or in an object store; or `hf:owner/name[:split]` on the hub.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from tuneyard.chats.readers.csv_rows import read_csv
from tuneyard.chats.readers.hugging_face_rows import HUB_PREFIX, read_hub_dataset, read_saved_dataset
from tuneyard.chats.readers.json_rows import read_json, read_jsonl
from tuneyard.chats.readers.parquet_rows import read_parquet
from tuneyard.chats.readers.raw_row import RawRow
from tuneyard.core.errors import DatasetError, StorageError
from tuneyard.storage.folder import StorageFolder
from tuneyard.storage.location import is_uri

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")


def read_raw_rows(location: str) -> Iterator[RawRow]:
    """All rows in order; a row that cannot be parsed has a `problem`.

    Raises DatasetError if the location cannot be read at all.
    """
    if location.startswith(HUB_PREFIX):
        yield from read_hub_dataset(location)
        return
    try:
        folder = StorageFolder.open(location if is_uri(location) else str(Path(location).absolute()))
        filesystem, path = folder.filesystem, folder.path
        info = folder.with_retries(location, lambda: filesystem.get_file_info(path))
    except StorageError as e:
        raise DatasetError(f"{location}: cannot be reached: {e}") from e
    if info.type == pafs.FileType.NotFound:
        raise DatasetError(f"{location}: no such dataset file.")
    if info.type == pafs.FileType.File:
        if info.size == 0:
            raise DatasetError(f"{location}: the file is empty. Expected one JSON object with `messages` per line.")
        yield from _read_file(filesystem, path, info.size)
        return
    yield from _read_folder(filesystem, path, location)


def _read_folder(filesystem: pafs.FileSystem, path: str, location: str) -> Iterator[RawRow]:
    files = sorted(filesystem.get_file_info(pafs.FileSelector(path)), key=lambda file: file.path)
    names = {file.base_name for file in files}
    if names & {"state.json", "dataset_dict.json"}:
        yield from read_saved_dataset(location, has_splits="dataset_dict.json" in names)
        return
    shards = [file for file in files if file.type == pafs.FileType.File and _format_suffix(file.base_name) in SUFFIXES]
    if not shards:
        raise DatasetError(
            f"{location}: the folder holds no dataset. Expected *{', *'.join(SUFFIXES)} files, each also with .gz or "
            ".zst, or a dataset that datasets.save_to_disk wrote."
        )
    for shard in shards:
        yield from _read_file(filesystem, shard.path, shard.size)


def _format_suffix(name: str) -> str:
    """The suffix that names the file format: `.jsonl` of `chats.jsonl.gz`."""
    path = Path(name)
    return Path(path.stem).suffix if path.suffix in COMPRESSIONS else path.suffix


def _read_file(filesystem: pafs.FileSystem, path: str, size_bytes: int) -> Iterator[RawRow]:
    name = Path(path).name
    suffix = _format_suffix(name)
    compression = COMPRESSIONS.get(Path(name).suffix)
    try:
        if suffix == ".parquet":
            yield from read_parquet(filesystem, path, name)
            return
        with filesystem.open_input_stream(path, compression=compression) as stream:
            if suffix == ".csv":
                yield from read_csv(stream, name)
            elif suffix == ".json":
                yield from read_json(stream, name, size_bytes)
            elif suffix in (".jsonl", ".ndjson"):
                yield from read_jsonl(stream, name)
            else:
                raise DatasetError(
                    f"{path}: the file type {suffix!r} is not supported. Supported: {', '.join(SUFFIXES)}, each also "
                    "with .gz or .zst."
                )
    except (OSError, pa.ArrowException) as e:
        raise DatasetError(f"{path}: cannot be read: {e}") from e
