"""Checks of a whole dataset: every problem of every row, in one pass and in bounded memory."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tuneyard.chats.dataset import no_rows_error
from tuneyard.chats.messages import ChatExample
from tuneyard.chats.row_reader import RowProblem
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.vocabulary import SPECIAL_TOKENS
from tuneyard.training_data.duplicates import DuplicateFinder

NOTE_KINDS = frozenset({"special-token text"})
"""Kinds of RowProblem that are reported but are right to train on."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\ufffd\ud800-\udfff]")
_SPECIAL = re.compile("|".join(map(re.escape, (*SPECIAL_TOKENS, "<|endoftext|>", "<|startoftext|>"))))


@dataclass(slots=True)
class ValidationCounts:
    """The rows and the problems by kind that a validation has counted so far."""

    rows: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)

    @property
    def problems(self) -> int:
        """The number of problems; notes (NOTE_KINDS) do not count."""
        return sum(count for kind, count in self.by_kind.items() if kind not in NOTE_KINDS)


class RowChecker:
    """Checks valid examples one after another: their text, their repetitions and, with a codec, their length."""

    def __init__(self, codec: HarmonyCodec | None = None, max_length: int | None = None) -> None:
        """Lengths are checked against `max_length` tokens only if both arguments are given."""
        self._codec = codec
        self._max_length = max_length
        self._duplicates = DuplicateFinder()

    def find_problems(self, example: ChatExample, *, is_heldout: bool = False) -> Iterator[RowProblem]:
        """The problems of the next row. Pass all training rows before the held-out rows."""
        yield from _text_problems(example)
        if duplicate := self._duplicates.find_problem(example, is_heldout=is_heldout):
            yield duplicate
        yield from self._length_problems(example)

    def _length_problems(self, example: ChatExample) -> Iterator[RowProblem]:
        if self._codec is None or self._max_length is None:
            return
        for turn, sample in enumerate(self._codec.render_for_training(example), start=1):
            if len(sample.token_ids) > self._max_length:
                text = (
                    f"turn {turn} has {len(sample.token_ids)} tokens with its prompt, the limit (--max-length) is "
                    f"{self._max_length}. Shorten it, raise data.max_length, or train with data.too_long=drop."
                )
                yield RowProblem(example.source, "too long", text)


def validate_dataset(
    rows: Iterable[ChatExample | RowProblem],
    checker: RowChecker,
    counts: ValidationCounts,
    location: str,
    *,
    is_heldout: bool = False,
) -> Iterator[RowProblem]:
    """Every problem in the order of the rows; adds the rows and problems to `counts`.

    Raises DatasetError if `rows` is empty; `location` names the dataset in the message.
    """
    rows_before = counts.rows
    for row in rows:
        counts.rows += 1
        problems = [row] if isinstance(row, RowProblem) else checker.find_problems(row, is_heldout=is_heldout)
        for problem in problems:
            counts.by_kind[problem.kind] += 1
            yield problem
    if counts.rows == rows_before:
        raise no_rows_error(location)


def _text_problems(example: ChatExample) -> Iterator[RowProblem]:
    for number, message in enumerate(example.messages, start=1):
        subject = f"message {number} ({message.role})"
        for text in (message.content, message.reasoning_content or ""):
            if match := _CONTROL.search(text):
                name = unicodedata.name(match.group(), f"U+{ord(match.group()):04X}")
                sentence = f"{subject} contains the control character {name} at character {match.start() + 1}."
                yield RowProblem(example.source, "control character", f"{sentence} Remove it.")
            if match := _SPECIAL.search(text):
                sentence = (
                    f"{subject} spells {match.group()!r}. It is trained as plain text, not as the special token. "
                    "Remove it if it comes from another tool's template."
                )
                yield RowProblem(example.source, "special-token text", sentence)
