"""Finds rows of a dataset that repeat an earlier row, exactly or except for case, spaces and punctuation."""

from __future__ import annotations

from array import array
from functools import lru_cache
from typing import Any

from tuneyard.chats.dataset import content_bytes
from tuneyard.chats.messages import ChatExample
from tuneyard.chats.row_problems import RowProblem
from tuneyard.training_data.earlier_rows import HashTable, row_number, table_key
from tuneyard.training_data.visible_text import visible_form

_HASH_BITS = 31
_HASH_MASK = (1 << _HASH_BITS) - 1


class DuplicateFinder:
    """Compares each row with all rows before it. Memory: at most 70 bytes per row, for hashes and the row's number."""

    def __init__(self) -> None:
        self._seen = HashTable()
        """Hash of the visible chat -> index in the arrays below."""
        self._numbers = array("Q")
        self._details = array("Q")
        """Held-out flag, hash of how the row is trained, and hash of the exact row, packed into one int."""

    def find_problem(
        self, example: ChatExample, *, is_heldout: bool, content: bytes | None = None
    ) -> RowProblem | None:
        """The problem of a row that repeats an earlier one; None for the first of its kind.

        `content` is the example's content_bytes, if the caller has them. A held-out row that repeats a training row is
        leakage, so all training rows must come first. A pair counts with both answers. Rows whose weights or tools
        differ are no duplicates: they teach different turns.
        """
        content = content_bytes(example) if content is None else content
        exact, taught = hash(content) & _HASH_MASK, hash(_taught(example)) & _HASH_MASK
        index = self._seen.get_or_add(table_key(_visible_chat(example)), len(self._numbers))
        if index is None:
            self._numbers.append(row_number(example.source))
            self._details.append((is_heldout << _HASH_BITS | taught) << _HASH_BITS | exact)
            return None
        seen = self._details[index]
        was_heldout = bool(seen >> 2 * _HASH_BITS)
        is_exact = seen & _HASH_MASK == exact
        earlier = f"row or line {self._numbers[index]}"
        if is_heldout and not was_heldout:
            exception = "" if is_exact else " except for case, spaces and punctuation"
            text = (
                f"this held-out row equals a training row ({earlier}){exception}, so a result on it means nothing. "
                "Remove one of them."
            )
            return RowProblem(example.source, "leakage", text)
        if seen >> _HASH_BITS & _HASH_MASK != taught:
            return None
        if is_exact:
            return RowProblem(example.source, "duplicate", f"the row is the same as {earlier}. Remove it.")
        text = f"the row is the same as {earlier} except for case, spaces and punctuation. Remove one of them."
        return RowProblem(example.source, "near_duplicate", text)


def _visible_chat(example: ChatExample) -> tuple[Any, ...]:
    """The chat as people see it: roles, texts and calls."""
    parts: list[Any] = []
    for message in (*example.messages, *example.answers[1:]):
        parts += (message.role, _visible_text(message.content))
        if message.reasoning_content or message.tool_calls:
            calls = str([call.function for call in message.tool_calls]) if message.tool_calls else ""
            parts.append((_visible_text(message.reasoning_content or ""), calls))
    return tuple(parts)


_SHORT = 500
"""Characters of a text whose visible form is kept for when it comes again, as system messages and labels do."""

_known_form = lru_cache(maxsize=4096)(visible_form)


def _visible_text(text: str) -> str:
    return _known_form(text) if len(text) <= _SHORT else visible_form(text)


def _taught(example: ChatExample) -> tuple[Any, ...]:
    """Which turns are trained, and with which tools."""
    weights = tuple([message.weight != 0 for message in example.messages])
    return (*weights, str([tool.function for tool in example.tools])) if example.tools else weights
