"""Reading and writing the JSON files of a checkpoint."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from tuneyard.core.atomic_files import write_atomically
from tuneyard.core.errors import CheckpointError
from tuneyard.core.wording import printable, short_repr

MAX_BYTES = 64 * 2**20
"""Size of the largest JSON file that is read: more than twice that of gpt-oss's tokenizer.json. A larger one could take
all memory: Python's objects are up to 25 times as large as the text."""

MAX_NAME_BYTES = 255
"""Length of a file's name on Linux."""


def read_json(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file.

    Raises CheckpointError if the file is missing, is no plain file, is larger than MAX_BYTES or holds no JSON object.
    """
    try:
        data = json.loads(read_small_file(path))
    except FileNotFoundError as e:
        raise CheckpointError(f"{path.name} is missing in {path.parent}. Copy or export the checkpoint again.") from e
    except (OSError, ValueError, RecursionError) as e:
        raise CheckpointError(f"{path} cannot be read as JSON: {e}. Copy or export the checkpoint again.") from e
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds a JSON {type(data).__name__}, but an object is expected.")
    return data


def read_small_file(path: Path) -> bytes:
    """The content of a file. Raises OSError if it cannot be read, is no plain file or is larger than MAX_BYTES."""
    with open(path, "rb", opener=_open_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is a device, pipe or socket")
        if status.st_size > MAX_BYTES:
            raise OSError(f"it has {status.st_size:,} bytes, and at most {MAX_BYTES:,} are read")
        return file.read(MAX_BYTES)


def _open_without_waiting(path: str, flags: int) -> int:
    """Opens a pipe, which has no end, without waiting for somebody who writes to it."""
    return os.open(path, flags | os.O_NONBLOCK)


def refuse_outside_names(names: Iterable[str], where: object) -> None:
    """Raises CheckpointError for a path that does not stay in the folder whose files `where` lists."""
    for name in names:
        path = PurePosixPath(name)
        if not name or path.is_absolute() or ".." in path.parts:
            raise CheckpointError(
                f"{where} names {short_repr(name)}, which lies outside of the folder. It would be read there, and a "
                "copy would write there. Do not use this folder; copy or upload the checkpoint again as a new version."
            )
        if printable(name) != name or any(len(part.encode()) > MAX_NAME_BYTES for part in path.parts):
            raise CheckpointError(f"{where} names {short_repr(name)}, which cannot be a file's name.")


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Writes a JSON object with sorted keys, so that equal content gives equal bytes. Writes through no link."""
    write_atomically(path, json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
