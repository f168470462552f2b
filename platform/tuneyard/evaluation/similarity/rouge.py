"""ROUGE of one text against one reference, as F1."""

from __future__ import annotations

from rapidfuzz.distance import LCSseq

from tuneyard.evaluation.similarity.tokens import count_ngrams, split_words


def rouge_n(text: str, reference: str, *, n: int) -> float:
    """F1 of the sequences of `n` words that both texts have, 0 to 1.

    As rouge-score's `rougeN` without stemmer for ASCII texts. Source: Lin 2004, section 2.
    """
    counts, expected = count_ngrams(split_words(text), n), count_ngrams(split_words(reference), n)
    return _f1((counts & expected).total(), counts.total(), expected.total())


def rouge_l(text: str, reference: str) -> float:
    """F1 of the longest common subsequence of words, 0 to 1. As rouge-score's `rougeL`; source: Lin 2004, section 3."""
    words, expected = split_words(text), split_words(reference)
    return _f1(LCSseq.similarity(words, expected), len(words), len(expected))


def _f1(found: int, total: int, expected: int) -> float:
    return 2 * found / (total + expected) if found else 0.0
