"""The token table on disk: rendered once, in parallel, resumed where it stopped, read without loading it.

A store is a folder named by the fingerprint of all that decides its content. It holds one Arrow file per
so many chats, each visible only when whole, and index.json, written last.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tuneyard.chats.dataset import MAX_SHOWN_PROBLEMS, content_bytes
from tuneyard.chats.messages import ChatExample
from tuneyard.core.atomic_files import write_atomically
from tuneyard.harmony.codec import CodecSettings, HarmonyCodec
from tuneyard.training_data.token_table import TokenTable, build_token_table, pack_rows

if TYPE_CHECKING:
    import datasets

LAYOUT_VERSION = 1
"""Raise it with every change of this file or of token_table that changes rows."""

PART_CHATS = 1024
"""Chats to a part: what an interruption may cost, and what is packed together."""

MAX_PROCESSES = 16
INDEX_NAME = "index.json"
SUMMARY_KEY = b"tuneyard"


@dataclass(frozen=True, slots=True)
class ChatSource:
    """The chats to render: `read` starts a pass over `rows` of them, whose content has this fingerprint."""

    read: Callable[[], Iterable[ChatExample]]
    rows: int
    fingerprint: str
    name: str


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """What decides the rows, besides the chats."""

    checkpoint: Path
    codec: CodecSettings
    max_length: int
    train_on_reasoning: bool = True
    packed: bool = False
    part_chats: int = PART_CHATS


@dataclass(frozen=True, slots=True)
class TokenStore:
    """A finished store. `too_long` turns over the maximum length were left out; the first of them are named."""

    path: Path
    rows: int
    tokens: int
    too_long: int
    too_long_named: tuple[str, ...]


def build_token_store(
    source: ChatSource, settings: TokenSettings, root: Path, processes: int | None = None
) -> TokenStore:
    """The store of a source below `root`: the one that stands there, or else rendered now.

    Renders on `processes` cores (None: all, at most 16) with a progress bar on a terminal; memory does not grow
    with the source. Interrupted, whole parts are kept, and the next call goes on behind them.
    """
    folder = root / _fingerprint(source, settings)
    index = folder / INDEX_NAME
    if not index.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        parts = list(_rendered_parts(source, settings, folder, processes or _default_processes()))
        summary = {name: sum(part[name] for part in parts) for name in ("rows", "tokens", "too_long")}
        named = [name for part in parts for name in part["too_long_named"]][:MAX_SHOWN_PROBLEMS]
        write_atomically(index, json.dumps(summary | {"too_long_named": named}).encode())
    found = json.loads(index.read_text(encoding="utf-8"))
    return TokenStore(folder, **(found | {"too_long_named": tuple(found["too_long_named"])}))


def open_token_rows(folder: Path) -> datasets.Dataset:
    """The rows of a store, memory-mapped: columns and meaning as in token_table."""
    import datasets

    parts = [datasets.Dataset.from_file(str(path)) for path in sorted(folder.glob("part-*.arrow"))]
    return datasets.concatenate_datasets([part for part in parts if len(part)] or parts)


def write_part(table: TokenTable, path: Path, chats_digest: str = "") -> dict[str, Any]:
    """Writes one part of a store, whole or not at all. Returns its summary: rows, tokens, too_long, too_long_named."""
    summary = {
        "chats": chats_digest,
        "rows": table.rows.num_rows,
        "tokens": table.num_tokens,
        "too_long": len(table.too_long),
        "too_long_named": table.too_long[:MAX_SHOWN_PROBLEMS],
    }
    rows = table.rows.replace_schema_metadata({SUMMARY_KEY: json.dumps(summary)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    write_atomically(path, sink.getvalue().to_pybytes())
    return summary


def _rendered_parts(
    source: ChatSource, settings: TokenSettings, folder: Path, processes: int
) -> Iterator[dict[str, Any]]:
    """The summaries of all parts in order; parts that stand already are not rendered again."""
    from tqdm import tqdm

    here = _InlineExecutor()
    parts = -(-source.rows // settings.part_chats)
    waiting: deque[tuple[Future[dict[str, Any]], int]] = deque()
    bar = tqdm(total=source.rows, desc=f"tokens of {source.name}", unit=" chats", disable=not sys.stderr.isatty())
    with bar, here if processes == 1 or parts == 1 else _pool(min(processes, parts)) as pool:

        def next_summary() -> dict[str, Any]:
            future, chats = waiting.popleft()
            summary = future.result()
            bar.update(chats)
            return summary

        for number, chats in enumerate(_batched(source.read(), settings.part_chats)):
            path = part_path(folder, number)
            digest = _digest(chats)
            # A file that changed while it was read may have left a part of other chats.
            stands = path.is_file() and _summary(path)["chats"] == digest
            future = here.submit(_summary, path) if stands else pool.submit(_render, chats, digest, settings, path)
            waiting.append((future, len(chats)))
            if len(waiting) > 2 * processes:
                yield next_summary()
        while waiting:
            yield next_summary()


def _render(chats: list[ChatExample], digest: str, settings: TokenSettings, path: Path) -> dict[str, Any]:
    """One part, rendered, packed and written; runs in any process."""
    codec = _load_codec(settings.checkpoint, settings.codec.model_dump_json())
    table = build_token_table(chats, codec, settings.max_length, settings.train_on_reasoning)
    if settings.packed:
        table = TokenTable(pack_rows(table.rows, settings.max_length), table.too_long)
    return write_part(table, path, digest)


@lru_cache(maxsize=2)
def _load_codec(checkpoint: Path, settings: str) -> HarmonyCodec:
    return HarmonyCodec.from_checkpoint(checkpoint, CodecSettings.model_validate_json(settings))


class _InlineExecutor(Executor):
    """Runs what is submitted at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@contextlib.contextmanager
def _pool(processes: int) -> Iterator[Executor]:
    pool = ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        # A Ctrl-C of the terminal reaches the processes too: they end at once and without a word, parts are whole.
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield pool
    finally:
        # After an error nobody waits for parts that were not begun.
        pool.shutdown(cancel_futures=True)


def _default_processes() -> int:
    return min(MAX_PROCESSES, len(os.sched_getaffinity(0)))


def _fingerprint(source: ChatSource, settings: TokenSettings) -> str:
    facts = {
        "layout": LAYOUT_VERSION,
        "chats": source.fingerprint,
        "codec": _load_codec(settings.checkpoint, settings.codec.model_dump_json()).fingerprint,
        "max_length": settings.max_length,
        "train_on_reasoning": settings.train_on_reasoning,
        "packed": settings.packed,
        "part_chats": settings.part_chats,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def part_path(folder: Path, number: int) -> Path:
    """Where part `number`, from 0, of a store lies."""
    return folder / f"part-{number:06d}.arrow"


def _summary(path: Path) -> dict[str, Any]:
    with pa.memory_map(str(path)) as file:
        found: dict[str, Any] = json.loads(pa.ipc.open_stream(file).schema.metadata[SUMMARY_KEY])
    return found


def _digest(chats: list[ChatExample]) -> str:
    digest = hashlib.sha256()
    for chat in chats:
        # The place too: rows name it.
        digest.update(chat.source.encode() + content_bytes(chat) + b"\n")
    return digest.hexdigest()


def _batched(items: Iterable[ChatExample], size: int) -> Iterator[list[ChatExample]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
