"""Validation of a dataset: everything that is wrong with it, in one pass, in bounded memory."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tuneyard.chats.dataset import RowProblem, content_bytes, no_rows
from tuneyard.chats.messages import ChatExample
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.vocabulary import SPECIAL_TOKENS

NOTES = frozenset({"special-token text"})
"""Kinds that are worth knowing and right to train on."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\ufffd\ud800-\udfff]")
_SPECIAL = re.compile("|".join(map(re.escape, (*SPECIAL_TOKENS, "<|endoftext|>", "<|startoftext|>"))))
_EXACT_BITS = 24


@dataclass(slots=True)
class ValidationCounts:
    """What a validation has found so far."""

    rows: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)

    @property
    def problems(self) -> int:
        """All that is not a mere note."""
        return sum(count for kind, count in self.by_kind.items() if kind not in NOTES)


class RowChecker:
    """Checks rows one after the other; remembers of each row its hashes and its place in one file, about 100 bytes."""

    def __init__(self, codec: HarmonyCodec | None = None, max_length: int | None = None) -> None:
        self._codec = codec
        self._max_length = max_length
        self._seen: dict[int, int] = {}

    def problems(self, example: ChatExample, *, is_heldout: bool = False) -> Iterator[RowProblem]:
        """What a row that parses may still get wrong; held-out rows after all training rows."""
        yield from _text_problems(example)
        yield from self._repetitions(example, is_heldout=is_heldout)
        yield from self._lengths(example)

    def _repetitions(self, example: ChatExample, *, is_heldout: bool) -> Iterator[RowProblem]:
        exact, normalised = _hashes(example)
        known = self._seen.get(normalised)
        if known is None:
            line = int(match.group()) if (match := re.search(r"\d+(?=\D*$)", example.source)) else 0
            self._seen[normalised] = (line << 1 | is_heldout) << _EXACT_BITS | exact
            return
        line, was_heldout = known >> _EXACT_BITS + 1, bool(known >> _EXACT_BITS & 1)
        same = known & (1 << _EXACT_BITS) - 1 == exact
        place = f"row or line {line}"
        if is_heldout and not was_heldout:
            how = "is" if same else "is, but for case, spaces and punctuation,"
            text = f"{how} a training row ({place}): a result on it means nothing. Remove one of them."
            yield RowProblem(example.source, "leakage", text)
        elif same:
            yield RowProblem(example.source, "duplicate", f"the same as {place}. Remove it.")
        else:
            text = f"the same as {place} but for case, spaces and punctuation. Remove one of them."
            yield RowProblem(example.source, "near duplicate", text)

    def _lengths(self, example: ChatExample) -> Iterator[RowProblem]:
        if self._codec is None or self._max_length is None:
            return
        for turn, sample in enumerate(self._codec.render_for_training(example), start=1):
            if len(sample.token_ids) > self._max_length:
                text = (
                    f"turn {turn} has {len(sample.token_ids)} tokens with its prompt, over --max-length "
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
    """Every problem in the order of the rows, counted as they come. Raises DatasetError if there are no rows."""
    before = counts.rows
    for row in rows:
        counts.rows += 1
        found = [row] if isinstance(row, RowProblem) else checker.problems(row, is_heldout=is_heldout)
        for problem in found:
            counts.by_kind[problem.kind] += 1
            yield problem
    if counts.rows == before:
        raise no_rows(location)


def _text_problems(example: ChatExample) -> Iterator[RowProblem]:
    for index, message in enumerate(example.messages, start=1):
        for text in (message.content, message.reasoning_content or ""):
            if found := _CONTROL.search(text):
                name = unicodedata.name(found.group(), f"U+{ord(found.group()):04X}")
                where = f"message {index} ({message.role})"
                said = f"{where} holds the control character {name} at character {found.start() + 1}. Remove it."
                yield RowProblem(example.source, "control character", said)
            if found := _SPECIAL.search(text):
                said = (
                    f"message {index} ({message.role}) spells {found.group()!r}. It will be plain text, not the "
                    "special token; remove it if it came from another tool's template."
                )
                yield RowProblem(example.source, "special-token text", said)


def _hashes(example: ChatExample) -> tuple[int, int]:
    """24 bits of what the row is exactly, 63 bits of what it is but for case, spaces and punctuation."""
    exact = hashlib.blake2b(content_bytes(example), digest_size=_EXACT_BITS // 8).digest()
    parts = [f"{m.role}\x00{m.content}\x00{m.reasoning_content}\x00{m.tool_calls}" for m in example.messages]
    words = " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", "\x01".join(parts)).casefold()))
    normalised = hashlib.blake2b(words.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(exact), int.from_bytes(normalised) >> 1
