"""The rows of a dataset at any location, read one at a time, so that memory does not grow with the dataset.

A location is a file (JSONL, JSON, CSV or Parquet, also compressed with gzip or zstd), a folder of such files, a pattern
such as `data/train-*`, or a Hugging Face dataset saved to disk; each on a mounted disk or in an object store; or
`hf:owner/name[#config][:split]` on the hub.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from tuneyard.chats.readers.csv_rows import read_csv
from tuneyard.chats.readers.dataset_card import declared_configs
from tuneyard.chats.readers.file_kind import HEAD_BYTES, MAGIC_BYTES, compression_of, tell_file_kind
from tuneyard.chats.readers.folder_files import DataFile, is_pattern, list_data_files, list_matching_files
from tuneyard.chats.readers.hugging_face_rows import HUB_PREFIX, read_hub_dataset, read_saved_dataset
from tuneyard.chats.readers.json_rows import read_json, read_jsonl
from tuneyard.chats.readers.parquet_rows import read_parquet
from tuneyard.chats.readers.raw_row import RawRow
from tuneyard.core.errors import DatasetError, StorageError
from tuneyard.core.wording import first_of
from tuneyard.storage.folder import StorageFolder
from tuneyard.storage.location import is_uri

README = "README.md"


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
    match info.type:
        case pafs.FileType.File:
            if info.size == 0:
                raise DatasetError(f"{location}: the file is empty. Expected one JSON object with `messages` per line.")
            yield from _read_file(filesystem, DataFile(path, Path(path).name, info.size), location)
        case pafs.FileType.Directory:
            yield from _read_folder(filesystem, path, location)
        case pafs.FileType.NotFound if is_pattern(path):
            yield from _read_files(filesystem, list_matching_files(filesystem, path, location), location)
        case pafs.FileType.NotFound:
            raise DatasetError(f"{location}: no such dataset file.")
        case _:
            raise DatasetError(
                f"{location}: this is a pipe or a device, which can be read once only; a dataset is read several "
                "times. Write it to a file first."
            )


def _read_folder(filesystem: pafs.FileSystem, path: str, location: str) -> Iterator[RawRow]:
    try:
        names = {info.base_name for info in filesystem.get_file_info(pafs.FileSelector(path))}
        if names & {"state.json", "dataset_dict.json"}:
            yield from read_saved_dataset(location, has_splits="dataset_dict.json" in names)
            return
        if README in names:
            with filesystem.open_input_stream(f"{path}/{README}") as stream:
                _check_card(stream.read().decode(errors="replace"), location)
        files = list_data_files(filesystem, path, location)
    except OSError as e:
        raise DatasetError(f"{location}: cannot be read: {e}") from e
    yield from _read_files(filesystem, files, location)


def _check_card(readme: str, location: str) -> None:
    """Raises DatasetError if the README of a dataset's clone declares several configs or splits."""
    configs = declared_configs(readme)
    for what, names, mark in (
        ("configs", list(configs), "#"),
        ("splits", next(iter(configs.values()), []), ":"),
    ):
        if len(names) > 1:
            by_name = f"{HUB_PREFIX}{Path(location).absolute()}{mark}{names[0]}"
            choice = "a pattern for the files of one, such as data/train-*" if is_uri(location) else by_name
            raise DatasetError(
                f"{location}: its {README} declares the {what} {first_of(names, 8)}, which are never mixed. Give "
                f"{choice}"
            )


def _read_files(filesystem: pafs.FileSystem, files: list[DataFile], location: str) -> Iterator[RawRow]:
    columns: set[str] = set()
    for file in files:
        rows = _read_file(filesystem, file, f"{location}: {file.name}")
        for row in islice(rows, 1):
            found = set(row.value) if isinstance(row.value, dict) else set()
            if columns and found and not columns & found:
                raise DatasetError(
                    f"{location}: {file.name} has the columns {first_of(sorted(found))}, and no column of the files "
                    f"before it ({first_of(sorted(columns))}). Each file of a folder needs the same ones; a CSV file "
                    "needs its header."
                )
            columns = columns or found
            yield row
        yield from rows


def _read_file(filesystem: pafs.FileSystem, file: DataFile, location: str) -> Iterator[RawRow]:
    name = file.name
    try:
        with filesystem.open_input_stream(file.path, compression=None) as stream:
            compression = compression_of(stream.read(MAGIC_BYTES))
        with filesystem.open_input_stream(file.path, compression=compression) as stream:
            head = stream.read(HEAD_BYTES)
            content = _WithHead(head, stream)
            match tell_file_kind(head, Path(name).name, location):
                case "parquet" if compression is not None:
                    raise DatasetError(f"{location}: a Parquet file is compressed inside. Unpack it: {compression} -d")
                case "parquet":
                    yield from read_parquet(filesystem, file.path, name)
                case "csv":
                    yield from read_csv(content, name)
                case "json":
                    yield from read_json(content, name, file.size_bytes)
                case "jsonl":
                    yield from read_jsonl(content, name)
    except (OSError, pa.ArrowException) as e:
        raise DatasetError(f"{location}: cannot be read: {e}") from e


class _WithHead:
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, stream: Any) -> None:
        self._head = head
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most `size` if it is not negative; b"" at the end."""
        if not self._head:
            return bytes(self._stream.read(size) if size >= 0 else self._stream.read())
        head, self._head = self._head, b""
        return head + bytes(self._stream.read()) if size < 0 else head
