"""A few chats of a run's data, as a file of its own."""

from __future__ import annotations

import heapq
import json
from collections.abc import Container, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tuneyard.chats.dataset import DatasetScan
from tuneyard.chats.messages import ChatExample, ChatMessage
from tuneyard.chats.row_settings import RowSettings

SCANNED_CHATS = 2000
"""Chats from the start of the data among which the shortest are chosen."""


def copy_short_chats(source: str, settings: RowSettings, dropped: Container[int], count: int, target: Path) -> int:
    """Writes the `count` shortest of the first SCANNED_CHATS chats to the JSONL file `target`; returns their number.

    `dropped` holds the numbers of rows that are no chats to train on, from 0. The order of the data is kept.
    """
    chats = enumerate(islice(DatasetScan(source, settings, dropped), SCANNED_CHATS))
    sized = ((len(text := json.dumps(chat_row(chat), ensure_ascii=False)), place, text) for place, chat in chats)
    shortest = sorted(heapq.nsmallest(count, sized), key=lambda entry: entry[1])
    target.write_text("".join(f"{text}\n" for _, _, text in shortest), encoding="utf-8")
    return len(shortest)


def chat_row(chat: ChatExample) -> dict[str, Any]:
    """The chat as a row of a JSONL file. Reading it gives the same messages and tools.

    The format is `messages`; of a preference pair `chosen` and `rejected` after `prompt`.
    """
    tools = [tool.model_dump(exclude_none=True) for tool in chat.tools]
    messages = _rows_of(chat.messages)
    columns: dict[str, Any] = {"messages": messages}
    if chat.rejected is not None:
        columns = {"prompt": messages[:-1], "chosen": messages[-1:], "rejected": _rows_of([chat.rejected])}
    return columns | ({"tools": tools} if tools else {})


def _rows_of(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    return [message.model_dump(exclude_defaults=True) | {"content": message.content} for message in messages]
