"""Differences between two texts, word by word, as the page marks them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+(?:['’][^\W_]+)*|[^\w\s]|_")
"""A word, a sign, or one character of a script that sets no spaces between words. All other text is space."""

MAX_WORDS = 4_000
"""Words of a text; longer texts are not compared: it takes time that is quadratic in the words."""

MIN_SHARE = 0.2
"""Least share of equal words: below it nearly everything would be marked, which shows nothing."""

MIN_RUN = 2
"""Equal words between two differences that are left unmarked; fewer are a coincidence ("the", a comma)."""


@dataclass(frozen=True, slots=True)
class Differences:
    """Indices of the words that only the left text and only the right text has."""

    left: frozenset[int] = frozenset()
    right: frozenset[int] = frozenset()
    share: float | None = 1.0
    """Equal words, as a share of all, 0 to 1; None if the texts were too long to compare."""

    @property
    def are_marked(self) -> bool:
        """Whether marking the differences shows something."""
        return bool(self.left or self.right) and self.share is not None and self.share >= MIN_SHARE


def split_words(text: str) -> list[str]:
    """The text's words and signs."""
    return WORD.findall(text)


def find_differences(left: Sequence[str], right: Sequence[str]) -> Differences:
    """The words in which two texts differ. Without them, both are the same sequence of words."""
    if max(len(left), len(right)) > MAX_WORDS:
        return Differences(share=None)
    blocks = _equal_blocks(left, right)
    kept_left = {i for a, _, size in blocks for i in range(a, a + size)}
    kept_right = {i for _, b, size in blocks for i in range(b, b + size)}
    total = len(left) + len(right)
    return Differences(
        left=frozenset(range(len(left))) - kept_left,
        right=frozenset(range(len(right))) - kept_right,
        share=(len(kept_left) + len(kept_right)) / total if total else 1.0,
    )


def _equal_blocks(left: Sequence[str], right: Sequence[str]) -> list[tuple[int, int, int]]:
    """Runs of equal words as (start in left, start in right, length), without those that are a coincidence."""
    matcher = SequenceMatcher(None, left, right)
    blocks = [(block.a, block.b, block.size) for block in matcher.get_matching_blocks() if block.size]
    return [block for block in blocks if block[2] >= MIN_RUN or _is_at_an_end(block, len(left), len(right))]


def _is_at_an_end(block: tuple[int, int, int], left: int, right: int) -> bool:
    a, b, size = block
    return a == b == 0 or (a + size == left and b + size == right)
