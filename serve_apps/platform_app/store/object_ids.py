"""Ids of objects, which sort as the objects were created, so that a list can be read in pages by id alone."""

from __future__ import annotations

import re
import secrets
import threading
import time

FILE = "file-"
JOB = "ftjob-"
JOB_EVENT = "ftevent-"
JOB_CHECKPOINT = "ftckpt_"
BATCH = "batch_"
EVAL = "eval_"
EVAL_RUN = "evalrun_"
EVAL_OUTPUT_ITEM = "outputitem_"
UPLOAD = "upload_"
UPLOAD_PART = "part_"
VOTE = "vote_"
CORRECTION = "correction_"
PREFIXES = (
    FILE,
    JOB,
    JOB_EVENT,
    JOB_CHECKPOINT,
    BATCH,
    EVAL,
    EVAL_RUN,
    EVAL_OUTPUT_ITEM,
    UPLOAD,
    UPLOAD_PART,
    VOTE,
    CORRECTION,
)
"""What the ids of each kind of object begin with: OpenAI's prefixes, and two of ours for votes."""

_COUNTER_BITS = 16
_DIGITS = re.compile(r"[0-9a-f]{32}")

_lock = threading.Lock()
_last_position = 0


def new_id(prefix: str) -> str:
    """A new id: the prefix and 32 hexadecimal digits, of which half are random.

    Ids that one process makes sort in the order in which they were made; those of several processes sort by their
    clocks, in milliseconds.
    """
    global _last_position
    with _lock:
        _last_position = max(_last_position + 1, time.time_ns() // 1_000_000 << _COUNTER_BITS)
        position = _last_position
    return f"{prefix}{position:016x}{secrets.token_hex(8)}"


def new_id_after(prefix: str, last: str | None) -> str:
    """A new id that sorts after `last`, whatever the clock of the process that made that one; None is no such id."""
    new = new_id(prefix)
    if last is None or last < new:
        return new
    position = int(last[len(prefix) : len(prefix) + 16], 16) + 1
    return f"{prefix}{position:016x}{secrets.token_hex(8)}"


def is_id(text: str, prefix: str) -> bool:
    """Whether the text has the form of an id with this prefix."""
    return text.startswith(prefix) and _DIGITS.fullmatch(text, len(prefix)) is not None
