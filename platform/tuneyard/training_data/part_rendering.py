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
from itertools import chain, islice
from pathlib import Path
from typing import Any

from tuneyard.chats.dataset import content_bytes
from tuneyard.chats.messages import ChatExample
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings
from tuneyard.training_data.token_part import read_part, write_part
from tuneyard.training_data.token_table import TokenTable, build_token_tables, pack_rows

PART_CHATS = 1024
"""Chats per part, at most. An interruption loses at most one part's work per process; rows are packed within their
file."""

PART_BYTES = 4 << 20
"""Bytes of the chats of a part, as JSON, unless it is one chat. It bounds what this process holds for the others."""

FILE_TOKENS = 2 << 20
"""Tokens in a file of a part, unless it is one row. A process takes about 50 bytes per token to write a file."""

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
    file_tokens: int = FILE_TOKENS


def render_parts(
    source: ChatSource, settings: TokenSettings, folder: Path, processes: int | None
) -> Iterator[dict[str, Any]]:
    """Renders the parts that are missing in `folder` and yields the summaries of all parts in order.

    None for `processes` is one per CPU core, at most MAX_PROCESSES. Shows a progress bar on a terminal.
    """
    from tqdm import tqdm

    processes = processes or min(MAX_PROCESSES, len(os.sched_getaffinity(0)))
    inline = _InlineExecutor()
    parts = _cut_into_parts(source.read(), settings.part_chats)
    first_two = list(islice(parts, 2))
    pending: deque[tuple[Future[dict[str, Any]], int]] = deque()
    bar = tqdm(total=source.rows, desc=f"tokens of {source.name}", unit=" chats", disable=not sys.stderr.isatty())
    with bar, inline if processes == 1 or len(first_two) < 2 else _process_pool(processes) as pool:

        def next_summary() -> dict[str, Any]:
            future, chats = pending.popleft()
            summary = future.result()
            bar.update(chats)
            return summary

        for number, part in enumerate(chain(first_two, parts)):
            # An interrupted run may have left a part of other chats, if the dataset changed while it was read.
            summary = read_part(folder, number, part.digest)
            if summary is None:
                future = pool.submit(_render_part, part, settings, folder, number)
            else:
                future = inline.submit(lambda found: found, summary)
            pending.append((future, len(part.chats)))
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


@dataclass(frozen=True, slots=True)
class _Part:
    """Chats of a part, and the SHA-256 of them and of their sources, because rows name their source."""

    chats: list[ChatExample]
    digest: str


def _cut_into_parts(chats: Iterable[ChatExample], max_chats: int) -> Iterator[_Part]:
    """The chats in their order, in parts of at most `max_chats` chats and PART_BYTES bytes."""
    part: list[ChatExample] = []
    size, digest = 0, hashlib.sha256()
    for chat in chats:
        content = chat.source.encode(errors="surrogatepass") + content_bytes(chat) + b"\n"
        if part and (len(part) == max_chats or size + len(content) > PART_BYTES):
            yield _Part(part, digest.hexdigest())
            part, size, digest = [], 0, hashlib.sha256()
        part.append(chat)
        size += len(content)
        digest.update(content)
    if part:
        yield _Part(part, digest.hexdigest())


def _render_part(part: _Part, settings: TokenSettings, folder: Path, number: int) -> dict[str, Any]:
    """Renders, packs and writes one part, in any process. Returns its summary."""
    tables = build_token_tables(
        part.chats, load_codec(settings), settings.max_length, settings.train_on_reasoning, settings.file_tokens
    )
    if settings.packed:
        tables = (TokenTable(pack_rows(table.rows, settings.max_length), table.too_long) for table in tables)
    return write_part(tables, folder, number, part.digest)


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
