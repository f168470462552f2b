"""METEOR of one text against one reference, without synonyms."""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence

import snowballstemmer

from tuneyard.evaluation.similarity.tokens import split_13a

RECALL_WEIGHT = 0.9
PENALTY_POWER = 3
PENALTY_WEIGHT = 0.5
"""Source of the three: Banerjee and Lavie 2005, section 2.2."""


def meteor(text: str, reference: str) -> float:
    """METEOR, 0 to 1: words that both texts have, first as they are, then by their English stem; fewer and longer runs
    of words in the same order score higher.

    As NLTK's single_meteor_score with Porter's original stemmer and without WordNet, which would be a download: words
    that mean the same do not match. Case does not count.
    """
    words, expected = split_13a(text.lower()), split_13a(reference.lower())
    pairs = _match(words, expected)
    if not pairs:
        return 0.0
    precision, recall = len(pairs) / len(words), len(pairs) / len(expected)
    mean = precision * recall / (RECALL_WEIGHT * precision + (1 - RECALL_WEIGHT) * recall)
    runs = 1 + sum(after != (before[0] + 1, before[1] + 1) for before, after in itertools.pairwise(pairs))
    return mean * (1 - PENALTY_WEIGHT * (runs / len(pairs)) ** PENALTY_POWER)


def _match(words: Sequence[str], expected: Sequence[str]) -> list[tuple[int, int]]:
    """Positions of words that match, in the text and in the reference, by position in the text."""
    pairs: list[tuple[int, int]] = []
    left, right = dict(enumerate(words)), dict(enumerate(expected))
    for form in (str, _stem):
        found = _match_by(form, left, right)
        pairs += found
        for position, other in found:
            del left[position], right[other]
    return sorted(pairs)


def _match_by(form: Callable[[str], str], left: dict[int, str], right: dict[int, str]) -> list[tuple[int, int]]:
    """Pairs words of the same form: the last one of the text with the last one of the reference, and so on."""
    positions: dict[str, list[int]] = defaultdict(list)
    for position, word in right.items():
        positions[form(word)].append(position)
    pairs = []
    for position, word in sorted(left.items(), reverse=True):
        if open_positions := positions.get(form(word)):
            pairs.append((position, open_positions.pop()))
    return pairs


@functools.lru_cache(maxsize=10_000)
def _stem(word: str) -> str:
    return str(snowballstemmer.stemmer("porter").stemWord(word))
