"""Rows of a dataset, whatever file holds them, one at a time: memory does not grow with the file.

JSONL, JSON, CSV and Parquet, plain or gzip or zstd; a folder of such shards; a Hugging Face dataset
saved to disk; all of these on object stores too, through pyarrow.fs; or `hf:owner/name`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from tuneyard.core.errors import DatasetError, MissingDependencyError, StorageError
from tuneyard.storage.folder import StorageFolder, is_uri

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")
CHUNK_BYTES = 1 << 20
MAX_JSON_BYTES = 1 << 30
"""A JSON array cannot be read in parts; larger ones belong into JSONL."""
HUB_PREFIX = "hf:"


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as it lies in the file, or, instead, the problem that kept it from being read."""

    where: str
    value: Any = None
    problem: str | None = None


def read_rows(location: str) -> Iterator[RawRow]:
    """All rows in order; broken ones as problems. Raises DatasetError when there is nothing to read at all."""
    if location.startswith(HUB_PREFIX):
        yield from _read_hub(location)
        return
    try:
        folder = StorageFolder.open(location if is_uri(location) else str(Path(location).absolute()))
        filesystem, path = folder.filesystem, folder.path
        info = folder.patiently(location, lambda: filesystem.get_file_info(path))
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
        yield from _read_saved(location, is_dict="dataset_dict.json" in names)
        return
    shards = [file for file in files if file.type == pafs.FileType.File and _suffix(file.base_name) in SUFFIXES]
    if not shards:
        raise DatasetError(
            f"{location}: the folder holds no dataset: no *{', *'.join(SUFFIXES)} file (.gz and .zst are fine), "
            "and nothing that datasets.save_to_disk wrote."
        )
    for shard in shards:
        yield from _read_file(filesystem, shard.path, shard.size)


def _suffix(name: str) -> str:
    path = Path(name)
    return Path(path.stem).suffix if path.suffix in COMPRESSIONS else path.suffix


def _read_file(filesystem: pafs.FileSystem, path: str, size: int) -> Iterator[RawRow]:
    name = Path(path).name
    suffix = _suffix(name)
    compression = COMPRESSIONS.get(Path(name).suffix)
    try:
        if suffix == ".parquet":
            yield from _read_parquet(filesystem, path, name)
            return
        with filesystem.open_input_stream(path, compression=compression) as stream:
            if suffix == ".csv":
                yield from _read_csv(stream, name)
            elif suffix == ".json":
                yield from _read_json(stream, name, size)
            elif suffix in (".jsonl", ".ndjson"):
                yield from _read_jsonl(_lines(stream), name)
            else:
                raise DatasetError(
                    f"{path}: unknown kind of file. Known: {', '.join(SUFFIXES)}, each also .gz or .zst."
                )
    except (OSError, pa.ArrowException) as e:
        raise DatasetError(f"{path}: cannot be read: {e}") from e


def _lines(stream: Any) -> Iterator[bytes]:
    rest = b""
    while chunk := stream.read(CHUNK_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
    if rest:
        yield rest


def _decoded(lines: Iterator[bytes], name: str) -> Iterator[tuple[int, str | RawRow]]:
    for number, line in enumerate(lines, start=1):
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as e:
            problem = f"not UTF-8: byte 0x{line[e.start]:02x}. Convert it: iconv -f latin1 -t utf-8 {name}"
            yield number, RawRow(f"{name}:{number}", problem=problem)


def _read_jsonl(lines: Iterator[bytes], name: str) -> Iterator[RawRow]:
    for number, line in _decoded(lines, name):
        if isinstance(line, RawRow):
            yield line
        elif line.strip():
            where = f"{name}:{number}"
            try:
                yield RawRow(where, json.loads(line))
            except json.JSONDecodeError as e:
                problem = f"not valid JSON at column {e.colno}: {e.msg}. One whole object per line."
                yield RawRow(where, problem=problem)
            except RecursionError:
                yield RawRow(where, problem="JSON nested too deeply to be a chat row.")


def _read_json(stream: Any, name: str, size: int) -> Iterator[RawRow]:
    if size > MAX_JSON_BYTES:
        raise DatasetError(f"{name}: {size >> 20} MiB of JSON cannot be read in parts. Convert it: jq -c '.[]' {name}")
    data = stream.read()
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise DatasetError(f"{name}:{line}: not UTF-8: byte 0x{data[e.start]:02x}.") from e
    except json.JSONDecodeError as e:
        if e.msg == "Extra data":  # one object per line, under the name of the other format
            yield from _read_jsonl(iter(data.split(b"\n")), name)
            return
        raise DatasetError(f"{name}:{e.lineno}: not valid JSON at column {e.colno}: {e.msg}.") from e
    except RecursionError as e:
        raise DatasetError(f"{name}: JSON nested too deeply to be a dataset.") from e
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        value = value["data"]
    rows = value if isinstance(value, list) else [value]
    for number, row in enumerate(_squad_flattened(rows), start=1):
        yield RawRow(f"{name}[{number}]", row)


def _squad_flattened(rows: list[Any]) -> Iterator[Any]:
    """SQuAD's own file nests questions in paragraphs in articles; every other row is left as it is."""
    for row in rows:
        if isinstance(row, dict) and isinstance(row.get("paragraphs"), list):
            for paragraph in row["paragraphs"]:
                for question in paragraph.get("qas", []):
                    answers = {"text": [answer["text"] for answer in question.get("answers", [])]}
                    yield {"context": paragraph["context"], "question": question["question"], "answers": answers}
        else:
            yield row


def _read_csv(stream: Any, name: str) -> Iterator[RawRow]:
    csv.field_size_limit(1 << 30)
    broken: list[RawRow] = []

    def text() -> Iterator[str]:
        for _, line in _decoded(_lines(stream), name):
            if isinstance(line, RawRow):
                broken.append(line)
                yield "\n"
            else:
                yield line + "\n"

    reader = csv.DictReader(text(), strict=True)
    try:
        for row in reader:
            yield from broken
            broken.clear()
            where = f"{name}:{reader.line_num}"
            if None in row or None in row.values():
                found = sum(v is not None for v in row.values())
                yield RawRow(
                    where, problem=f"a row of {found} fields where the header has {len(reader.fieldnames or ())}."
                )
            else:
                yield RawRow(where, {key: _cell(value) for key, value in row.items() if value != ""})
    except csv.Error as e:
        yield RawRow(f"{name}:{reader.line_num}", problem=f"not valid CSV: {e}.")
    yield from broken


def _cell(text: str) -> Any:
    """A CSV cell; lists and objects come as JSON."""
    if text[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _read_parquet(filesystem: pafs.FileSystem, path: str, name: str) -> Iterator[RawRow]:
    with filesystem.open_input_file(path) as file:
        number = 0
        for batch in pq.ParquetFile(file).iter_batches(batch_size=256):
            for row in batch.to_pylist():
                number += 1
                yield RawRow(f"{name}:row {number}", without_nulls(row))


def without_nulls(value: Any) -> Any:
    """Columns of structs have every key in every row; those that are null were not there."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def _read_saved(location: str, *, is_dict: bool) -> Iterator[RawRow]:
    datasets = _datasets()
    dataset = datasets.load_from_disk(location)
    if is_dict:
        if len(dataset) != 1:
            raise DatasetError(f"{location}: holds the splits {', '.join(dataset)}. Name one: {location}/train")
        dataset = next(iter(dataset.values()))
    for number, row in enumerate(dataset, start=1):
        yield RawRow(f"{Path(location).name}:row {number}", without_nulls(row))


def _read_hub(location: str) -> Iterator[RawRow]:
    name, _, split = location.removeprefix(HUB_PREFIX).partition(":")
    try:
        dataset = _datasets().load_dataset(name, split=split or "train", streaming=True)
        for number, row in enumerate(dataset, start=1):
            yield RawRow(f"{name}:row {number}", without_nulls(row))
    except (OSError, ValueError) as e:
        raise DatasetError(f"{location}: cannot be loaded from the Hugging Face hub: {e}") from e


def _datasets() -> Any:
    try:
        import datasets
    except ModuleNotFoundError as e:
        if e.name != "datasets":
            raise
        raise MissingDependencyError("Hugging Face datasets need the package `datasets`: pip install datasets") from e
    return datasets
