"""The token store: training rows on disk, rendered once, resumed after an interruption, and memory-mapped to read.

A store is a folder, named by the fingerprint of everything that decides its content. It holds the Arrow files of its
parts and index.json, which is written last: a store without it, or without one of its files, is not finished.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneyard.chats.dataset import MAX_SHOWN_PROBLEMS
from tuneyard.core.atomic_files import write_atomically
from tuneyard.core.errors import DatasetError
from tuneyard.training_data.part_rendering import ChatSource, TokenSettings, load_codec, render_parts
from tuneyard.training_data.token_part import part_files, read_file_summary

if TYPE_CHECKING:
    import datasets

LAYOUT_VERSION = 1
"""Increase it with every change of this room that changes rows or files: older stores are then not used."""

INDEX_NAME = "index.json"


@dataclass(frozen=True, slots=True)
class TokenStore:
    """A finished store. `too_long` is the number of turns over the maximum length, which were left out.

    `too_long_named` names the first MAX_SHOWN_PROBLEMS of them with their lengths.
    """

    path: Path
    rows: int
    tokens: int
    too_long: int
    too_long_named: tuple[str, ...]


def build_token_store(
    source: ChatSource, settings: TokenSettings, root: Path, processes: int | None = None
) -> TokenStore:
    """The finished store of a source below `root`, rendered now if it does not exist.

    Renders on `processes` processes; None is one per CPU core, at most 16. Shows a progress bar on a terminal. Memory
    does not grow with the source. After an interruption, the next call keeps the complete parts. A part of which a file
    is missing or damaged is rendered again.
    """
    folder = root / _fingerprint(source, settings)
    store = _read_finished(folder)
    if store is None:
        folder.mkdir(parents=True, exist_ok=True)
        summaries = list(render_parts(source, settings, folder, processes))
        _remove_other_files(folder, {name for summary in summaries for name in summary["files"]})
        totals = {name: sum(summary[name] for summary in summaries) for name in ("rows", "tokens", "too_long")}
        named = [name for summary in summaries for name in summary["too_long_named"]][:MAX_SHOWN_PROBLEMS]
        write_atomically(folder / INDEX_NAME, json.dumps(totals | {"too_long_named": named}))
        store = TokenStore(folder, **totals, too_long_named=tuple(named))
    return store


def open_token_rows(folder: Path) -> datasets.Dataset:
    """The rows of a finished store, memory-mapped; token_table describes the columns.

    Raises DatasetError if rows are missing, for example because a file of the store was removed.
    """
    import datasets

    files = part_files(folder)
    if (index := _read_index(folder)) is not None and _count(files) != (index["rows"], index["tokens"]):
        raise DatasetError(
            f"{folder}: the tokens are not complete: files are missing or damaged. Run the command again; it renders "
            "what is missing."
        )
    parts = [datasets.Dataset.from_file(str(path)) for path in files]
    return datasets.concatenate_datasets([part for part in parts if len(part)] or parts)


def _read_finished(folder: Path) -> TokenStore | None:
    """The store in the folder; None if it is not finished, or if a file of it is missing or damaged."""
    index = _read_index(folder)
    if index is None or _count(part_files(folder)) != (index["rows"], index["tokens"]):
        return None
    return TokenStore(folder, **(index | {"too_long_named": tuple(index["too_long_named"])}))


def _read_index(folder: Path) -> dict[str, Any] | None:
    try:
        index: dict[str, Any] = json.loads((folder / INDEX_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return index if isinstance(index, dict) and {"rows", "tokens", "too_long", "too_long_named"} == set(index) else None


def _count(files: Sequence[Path]) -> tuple[int, int] | None:
    """The rows and tokens of the files together; None if one of them is damaged."""
    rows = tokens = 0
    for path in files:
        summary = read_file_summary(path)
        if summary is None:
            return None
        rows, tokens = rows + summary["rows"], tokens + summary["tokens"]
    return rows, tokens


def _remove_other_files(folder: Path, names: set[str]) -> None:
    """Removes files that an interrupted run left of other chats, or of other parts."""
    for path in part_files(folder):
        if path.name not in names:
            path.unlink(missing_ok=True)


def _fingerprint(source: ChatSource, settings: TokenSettings) -> str:
    facts = {
        "layout": LAYOUT_VERSION,
        "chats": source.fingerprint,
        "codec": load_codec(settings).fingerprint,
        "max_length": settings.max_length,
        "train_on_reasoning": settings.train_on_reasoning,
        "packed": settings.packed,
        "part_chats": settings.part_chats,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
