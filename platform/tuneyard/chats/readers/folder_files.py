"""The files of a dataset folder, or of a pattern such as `data/train-*`: never those of several splits together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow.fs as pafs

from tuneyard.chats.readers.file_kind import SUFFIXES, format_suffix
from tuneyard.chats.readers.splits import split_of, split_pattern
from tuneyard.core.errors import DatasetError
from tuneyard.core.wording import first_of

_SPARK_PART = re.compile(r"part-\d+")
_INFORMATION = {"dataset_infos.json", "dataset_info.json", "dataset_dict.json"}
"""Files that describe a dataset and hold no rows."""

_BOOKKEEPING = re.compile(r"\.|__MACOSX$|_(SUCCESS|metadata|common_metadata|temporary|committed_|started_)")
"""Names of what macOS, Spark and others leave beside the data; a name that begins so is skipped."""

_UNREAD_SUFFIXES = {
    ".arrow", ".avro", ".bz2", ".feather", ".orc", ".pkl", ".tar", ".tgz", ".xls", ".xlsx", ".xz", ".zip",
}  # fmt: skip
"""Files that may hold rows, and are not read. Other files, such as README.md, are skipped."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file with rows: its path in the filesystem, its path in the dataset's folder, and its size."""

    path: str
    name: str
    size_bytes: int


def list_data_files(filesystem: pafs.FileSystem, path: str, location: str) -> list[DataFile]:
    """The data files in the folder at `path` and in its subfolders, in the order of their names; `location` is for
    messages.

    Raises DatasetError if there are none, and where reading them together would mix what belongs apart: several splits,
    files beside folders of files, a table of which only some files count.
    """
    infos = _list_all(filesystem, path)
    if any("_delta_log" in name.split("/") for name in infos):
        raise DatasetError(
            f"{location}: the folder is a Delta table, whose log decides which files count. Export its rows as Parquet."
        )
    files = [
        DataFile(info.path, name, info.size)
        for name, info in infos.items()
        if info.type == pafs.FileType.File and _is_data(PurePosixPath(name).name)
    ]
    unread = [name for name in infos if PurePosixPath(name.lower()).suffix in _UNREAD_SUFFIXES]
    if unread:
        raise DatasetError(
            f"{location}: the folder holds files that are not read: {first_of(unread)}. Unpack or convert them, move "
            f"them elsewhere, or name what to read with a pattern: {location}/*.jsonl"
        )
    folders = sorted({name.rpartition("/")[0] for name in (file.name for file in files)})
    if "" in folders and len(folders) > 1:
        raise DatasetError(
            f"{location}: the folder holds files, and folders with files ({first_of(folders[1:])}). Say which to read: "
            f"{location}/* for the files, {location}/**/* for all."
        )
    return _without_empty_files(_of_one_split(files, location), location)


def list_matching_files(filesystem: pafs.FileSystem, pattern: str, location: str) -> list[DataFile]:
    """The data files whose path matches `pattern`: `*` and `?` within a name, `**` for any folders.

    Raises DatasetError if there are none, or if they are those of several splits.
    """
    parts = pattern.split("/")
    fixed = next(number for number, part in enumerate(parts) if is_pattern(part))
    folder = "/".join(parts[:fixed])
    matches = re.compile(_to_regex("/".join(parts[fixed:])))
    files = [
        DataFile(info.path, name, info.size)
        for name, info in _list_all(filesystem, folder or "/").items()
        if info.type == pafs.FileType.File and matches.fullmatch(name)
    ]
    return _without_empty_files(_of_one_split(files, location), location)


def is_pattern(path: str) -> bool:
    """Whether the path holds a wildcard."""
    return any(mark in path for mark in "*?")


def _list_all(filesystem: pafs.FileSystem, folder: str) -> dict[str, pafs.FileInfo]:
    """All files and folders below a folder by their relative path, sorted; without hidden ones and bookkeeping."""
    found = filesystem.get_file_info(pafs.FileSelector(folder, recursive=True, allow_not_found=True))
    start = len(folder.rstrip("/")) + 1
    names = {info.path[start:]: info for info in found}
    return {
        name: names[name] for name in sorted(names) if not any(_BOOKKEEPING.match(part) for part in name.split("/"))
    }


def _is_data(name: str) -> bool:
    return name not in _INFORMATION and (format_suffix(name) in SUFFIXES or _SPARK_PART.match(name) is not None)


def _of_one_split(files: Sequence[DataFile], location: str) -> list[DataFile]:
    splits = {split_of(file.name): file.name for file in reversed(files)}
    # Files without a split's name are training data, unless the others are held out.
    named = sorted(splits.keys() - {""}) if "" not in splits or splits.keys() - {"", "train"} else []
    if len(named) > 1 or (named and "" in splits):
        base = re.split(r"/?[^/]*[*?]", location)[0]  # what stands before a pattern
        others = f" and other files ({splits['']})" if "" in splits else ""
        raise DatasetError(
            f"{location}: these files are of several splits, {', '.join(named)}{others}, and splits are never mixed. "
            f"Choose one: {base}/{split_pattern(splits[named[-1]])}"
        )
    return list(files)


def _without_empty_files(files: list[DataFile], location: str) -> list[DataFile]:
    """The files that hold something: Spark writes empty parts. Raises DatasetError if there are none."""
    if not files:
        raise DatasetError(
            f"{location}: the folder holds no dataset. Expected *{', *'.join(SUFFIXES)} files, each also with .gz or "
            ".zst, or a dataset that datasets.save_to_disk wrote."
        )
    filled = [file for file in files if file.size_bytes]
    if not filled:
        raise DatasetError(f"{location}: all of its files are empty: {first_of([file.name for file in files])}.")
    return filled


def _to_regex(pattern: str) -> str:
    marks = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(marks.get(piece, re.escape(piece)) for piece in re.split(r"(\*\*/|\*\*|\*|\?)", pattern))
