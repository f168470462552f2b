"""Checks of valid rows, one after another: their text, their length, their repetitions and contradictions."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from tuneyard.chats.dataset import content_bytes
from tuneyard.chats.messages import ChatExample
from tuneyard.chats.row_problems import RowProblem
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.tokenizer_file.tokenizer_rules import SPECIAL_TOKENS
from tuneyard.training_data.answer_conflicts import ConflictFinder
from tuneyard.training_data.duplicates import DuplicateFinder
from tuneyard.training_data.row_samples import name_samples, render_rows

MAX_CHARACTERS = 500_000
"""Characters of a row beyond which the context of GPT-OSS (131,072 tokens) usually does not hold it."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\ufffd\ud800-\udfff]")
_SPECIAL = re.compile("|".join(map(re.escape, (*SPECIAL_TOKENS, "<|endoftext|>", "<|startoftext|>"))))


class RowChecker:
    """Checks valid examples one after another: their text, their repetitions and, with a codec, their length."""

    def __init__(self, codec: HarmonyCodec | None = None, max_length: int | None = None) -> None:
        """Lengths are checked against `max_length` tokens only if both arguments are given."""
        self._codec = codec
        self._max_length = max_length
        self._duplicates = DuplicateFinder()
        self._conflicts = ConflictFinder()

    def find_problems(
        self, example: ChatExample, *, is_heldout: bool = False, content: bytes | None = None
    ) -> list[RowProblem]:
        """The problems of the next row. Pass all training rows before the held-out rows.

        `content` is the example's content_bytes, if the caller has them.
        """
        content = content_bytes(example) if content is None else content
        problems = list(_text_problems(example)) if _is_suspicious(content) else []
        if duplicate := self._duplicates.find_problem(example, is_heldout=is_heldout, content=content):
            problems.append(duplicate)
        if conflict := self._conflicts.find_problem(example):
            problems.append(conflict)
        if self._codec is not None or len(content) > MAX_CHARACTERS:
            problems += self._length_problems(example)
        return problems

    def _length_problems(self, example: ChatExample) -> Iterator[RowProblem]:
        messages = (*example.messages, *example.answers[1:])
        characters = sum(len(message.content) + len(message.reasoning_content or "") for message in messages)
        if characters > MAX_CHARACTERS:
            text = (
                f"the row has {characters:,} characters, more than the context of GPT-OSS usually holds "
                f"({MAX_CHARACTERS:,}). Shorten or split it."
            )
            yield RowProblem(example.source, "very_long", text)
        if self._codec is None or self._max_length is None:
            return
        for row, samples in enumerate(render_rows(self._codec, example), start=1):
            for name, sample in zip(name_samples(example, row), samples, strict=True):
                if len(sample.token_ids) > self._max_length:
                    text = (
                        f"{name} has {len(sample.token_ids)} tokens with its prompt, the limit (--max-length) is "
                        f"{self._max_length}. Shorten it, raise data.max_length, or train with data.too_long=drop."
                    )
                    yield RowProblem(example.source, "too_long", text)


def _is_suspicious(content: bytes) -> bool:
    """Whether _CONTROL or _SPECIAL may match in a text of the row with this canonical JSON. Much faster than both."""
    has_escape = b"\\" in content and (b"\\u" in content or b"\\b" in content or b"\\f" in content)
    if has_escape or b"<|" in content or b"\x7f" in content:
        return True
    return not content.isascii() and (b"\xc2" in content or b"\xef\xbf\xbd" in content or b"\xed" in content)


def _text_problems(example: ChatExample) -> Iterator[RowProblem]:
    named = [(f"message {number}", message) for number, message in enumerate(example.messages, start=1)]
    named += [("the rejected answer", message) for message in example.answers[1:]]
    for name, message in named:
        for text in filter(None, (message.content, message.reasoning_content)):
            if match := _CONTROL.search(text):
                character = unicodedata.name(match.group(), f"U+{ord(match.group()):04X}")
                sentence = (
                    f"{name} ({message.role}) contains the control character {character} at character "
                    f"{match.start() + 1}. Remove it."
                )
                yield RowProblem(example.source, "control_character", sentence)
            if match := _SPECIAL.search(text):
                sentence = (
                    f"{name} ({message.role}) spells {match.group()!r}. It is trained as plain text, not as "
                    "the special token. Remove it if it comes from another tool's template."
                )
                yield RowProblem(example.source, "special_token_text", sentence)
