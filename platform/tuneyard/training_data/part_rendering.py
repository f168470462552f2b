"""Renders chats to the parts of a token store, on several processes; parts that exist already are kept."""

from __future__ import annotations

import contextlib
import hashlib
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
from typing import Any

from tuneyard.chats.dataset import content_bytes
from tuneyard.chats.messages import ChatExample
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings
from tuneyard.training_data.token_part import part_path, read_part_summary, write_part
from tuneyard.training_data.token_table import TokenTable, build_token_table, pack_rows

PART_CHATS = 1024
"""Chats per part. An interruption loses at most one part's work per process; rows are packed within their part."""

MAX_PROCESSES = 16


@dataclass(frozen=True, slots=True)
class ChatSource:
    """The chats to render. Each call of `read` starts a new pass over all `rows` chats.

    `fingerprint` identifies their content; `name` is for the progress bar.
    """

    read: Callable[[], Iterable[ChatExample]]
    rows: int
    fingerprint: str
    name: str


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """Everything besides the chats that decides the rows of a token store."""

    checkpoint: Path
    codec: CodecSettings
    max_length: int
    train_on_reasoning: bool = True
    packed: bool = False
    part_chats: int = PART_CHATS


def render_parts(
    source: ChatSource, settings: TokenSettings, folder: Path, processes: int | None
) -> Iterator[dict[str, Any]]:
    """Renders the parts that are missing in `folder` and yields the summaries of all parts in order.

    None for `processes` is one per CPU core, at most MAX_PROCESSES. Shows a progress bar on a terminal.
    """
    from tqdm import tqdm

    processes = processes or min(MAX_PROCESSES, len(os.sched_getaffinity(0)))
    inline = _InlineExecutor()
    parts = -(-source.rows // settings.part_chats)
    pending: deque[tuple[Future[dict[str, Any]], int]] = deque()
    bar = tqdm(total=source.rows, desc=f"tokens of {source.name}", unit=" chats", disable=not sys.stderr.isatty())
    with bar, inline if processes == 1 or parts == 1 else _process_pool(min(processes, parts)) as pool:

        def next_summary() -> dict[str, Any]:
            future, chats = pending.popleft()
            summary = future.result()
            bar.update(chats)
            return summary

        for number, chats in enumerate(_batched(source.read(), settings.part_chats)):
            path = part_path(folder, number)
            digest = _digest(chats)
            # An interrupted run may have left a part of other chats, if the dataset changed while it was read.
            is_rendered = path.is_file() and read_part_summary(path)["chats"] == digest
            if is_rendered:
                future = inline.submit(read_part_summary, path)
            else:
                future = pool.submit(_render_part, chats, digest, settings, path)
            pending.append((future, len(chats)))
            if len(pending) > 2 * processes:
                yield next_summary()
        while pending:
            yield next_summary()


def load_codec(settings: TokenSettings) -> HarmonyCodec:
    """The codec of the settings; loaded once per process."""
    return _load_codec(settings.checkpoint, settings.codec.model_dump_json())


@lru_cache(maxsize=2)
def _load_codec(checkpoint: Path, codec_settings: str) -> HarmonyCodec:
    return HarmonyCodec.from_checkpoint(checkpoint, CodecSettings.model_validate_json(codec_settings))


def _render_part(chats: list[ChatExample], digest: str, settings: TokenSettings, path: Path) -> dict[str, Any]:
    """Renders, packs and writes one part, in any process. Returns its summary."""
    table = build_token_table(chats, load_codec(settings), settings.max_length, settings.train_on_reasoning)
    if settings.packed:
        table = TokenTable(pack_rows(table.rows, settings.max_length), table.too_long)
    return write_part(table, path, digest)


class _InlineExecutor(Executor):
    """Runs each call in this process, before `submit` returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@contextlib.contextmanager
def _process_pool(processes: int) -> Iterator[Executor]:
    pool = ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        # Ctrl-C in a terminal reaches the processes too. They end at once, without a traceback; parts are written
        # atomically.
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield pool
    finally:
        # After an error, parts that no process has begun are not rendered.
        pool.shutdown(cancel_futures=True)


def _digest(chats: list[ChatExample]) -> str:
    """SHA-256 of the chats and their sources, because rows name their source."""
    digest = hashlib.sha256()
    for chat in chats:
        digest.update(chat.source.encode() + content_bytes(chat) + b"\n")
    return digest.hexdigest()


def _batched(items: Iterable[ChatExample], size: int) -> Iterator[list[ChatExample]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
