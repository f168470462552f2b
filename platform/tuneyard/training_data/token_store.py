"""The token store: training rows on disk, rendered once, resumed after an interruption, and memory-mapped to read.

A store is a folder, named by the fingerprint of everything that decides its content. It holds one Arrow file per part
and index.json, which is written last: a store without it is not finished.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuneyard.chats.dataset import MAX_SHOWN_PROBLEMS
from tuneyard.core.atomic_files import write_atomically
from tuneyard.training_data.part_rendering import ChatSource, TokenSettings, load_codec, render_parts

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
    does not grow with the source. After an interruption, the next call keeps the complete parts.
    """
    folder = root / _fingerprint(source, settings)
    index = folder / INDEX_NAME
    if not index.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        summaries = list(render_parts(source, settings, folder, processes))
        totals = {name: sum(summary[name] for summary in summaries) for name in ("rows", "tokens", "too_long")}
        named = [name for summary in summaries for name in summary["too_long_named"]][:MAX_SHOWN_PROBLEMS]
        write_atomically(index, json.dumps(totals | {"too_long_named": named}))
    fields = json.loads(index.read_text(encoding="utf-8"))
    return TokenStore(folder, **(fields | {"too_long_named": tuple(fields["too_long_named"])}))


def open_token_rows(folder: Path) -> datasets.Dataset:
    """The rows of a finished store, memory-mapped; token_table describes the columns."""
    import datasets

    parts = [datasets.Dataset.from_file(str(path)) for path in sorted(folder.glob("part-*.arrow"))]
    return datasets.concatenate_datasets([part for part in parts if len(part)] or parts)


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
