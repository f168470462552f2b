"""NeMo folders, which contain pickles: read only if this platform wrote them and nothing in them has changed.

NeMo and Megatron-Core read their own checkpoints with pickle and import the classes that a checkpoint's context names,
so reading a foreign one can run code. The process that writes such a folder records the digests of its files in a file
beside it, which a copied or downloaded folder does not bring along.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.core.atomic_files import write_atomically
from tuneyard.core.errors import CheckpointError
from tuneyard.core.wording import first_of

CHUNK_BYTES = 4 * 1024 * 1024

THREADS = 4
"""Files that are hashed at once. hashlib computes without Python's lock."""

TRUST = "If you know who wrote it, record it: tuneyard models trust {folder}"


def record_path(folder: Path) -> Path:
    """The file that holds the digests of a NeMo folder: beside it, hidden."""
    return folder.with_name(f".{folder.name}.digests.json")


def record_written_folder(folder: Path, final: Path | None = None) -> None:
    """Records the digests of all files in a NeMo folder that was just written. Replaces an older record.

    `final` is the path to which the folder will be renamed; None means that it stays.
    """
    digests = _digests(folder, {path.relative_to(folder).as_posix() for path in _files(folder)})
    write_atomically(record_path(final or folder), json.dumps(digests, indent=1, sort_keys=True) + "\n")


def check_written_folder(folder: Path, part: int = 0, parts: int = 1) -> None:
    """Returns if the folder is what was recorded. Call it before NeMo reads the folder.

    With several `parts`, the numbers `part` from 0 on, each file is hashed in one of them: together they check what one
    call without parts does. Raises CheckpointError if there is no such folder, no record, or if a file was added,
    removed or changed.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such NeMo checkpoint. Check the path, or import or train it again.")
    if not record_path(folder).exists():
        raise CheckpointError(
            f"{folder} has no record of having been written by this platform ({record_path(folder).name} beside it). "
            "NeMo reads its checkpoints with pickle, so a foreign one could run code. Import the weights from "
            f"safetensors files instead (python -m jobs.import_checkpoint). {TRUST.format(folder=folder)}"
        )
    recorded: dict[str, str] = read_json(record_path(folder))
    # Parts of the recorded files: they are the same for all callers, also where a node sees another one late.
    hashed = set(sorted(recorded)[part::parts])
    present = {path.relative_to(folder).as_posix() for path in _files(folder)}
    actual = _digests(folder, hashed & present)
    changed = sorted((recorded.keys() ^ present) | {name for name in actual if recorded[name] != actual[name]})
    if changed:
        raise CheckpointError(
            f"{folder} is not what this platform wrote: {first_of(changed)} changed afterwards. NeMo reads its "
            "checkpoints with pickle, so a changed one could run code. Use another checkpoint of the run, or import "
            f"the base again. {TRUST.format(folder=folder)}"
        )


def _files(folder: Path) -> list[Path]:
    """All files and links below the folder."""
    return [path for path in folder.rglob("*") if path.is_symlink() or path.is_file()]


def _digests(folder: Path, names: Set[str]) -> dict[str, str]:
    """Digests of the files with these paths in the folder. A link counts as its target's path, which is not followed.

    Every byte is hashed. A .distcp file of Megatron's holds pickled objects between its tensors, and torch reads those
    with weights_only=False (torch/distributed/checkpoint/default_planner.py, 2.13). A terminal shows the progress.
    """
    paths = [folder / name for name in sorted(names)]
    total = sum(path.lstat().st_size for path in paths)
    bar: tqdm[Any] = tqdm(
        total=total,
        desc=f"hashing {folder.name}",
        unit="B",
        unit_scale=True,
        disable=not sys.stderr.isatty(),
        leave=False,
        delay=1,
    )
    with bar, ThreadPoolExecutor(THREADS, thread_name_prefix="hash") as pool:
        digests = pool.map(lambda path: _digest(path, bar.update), paths)
        return {path.relative_to(folder).as_posix(): digest for path, digest in zip(paths, digests, strict=True)}


def _digest(path: Path, count: Callable[[int], object]) -> str:
    if path.is_symlink():
        return f"link:{path.readlink()}"
    digest = hashlib.sha256()
    with path.open("rb") as file:
        # The size of the open file: on a network file system, stat of the path may still give an old one.
        size = file.seek(0, 2)
        file.seek(0)
        digest.update(f"{size}\n".encode())
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            count(len(chunk))
    return digest.hexdigest()
