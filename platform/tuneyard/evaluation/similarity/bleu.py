"""BLEU and Google's BLEU of one text against one reference."""

from __future__ import annotations

import math

from tuneyard.evaluation.similarity.tokens import count_ngrams, split_13a

MAX_ORDER = 4
"""Longest sequence of words that is compared."""


def bleu(text: str, reference: str) -> float:
    """BLEU of one sentence, 0 to 1: how many of the text's sequences of 1 to 4 words the reference has.

    As sacrebleu's sentence_bleu, divided by 100: tokenizer 13a, exponential smoothing, effective order. Source:
    Papineni et al. 2002; Chen and Cherry 2014, smoothing 3.
    """
    words, expected = split_13a(text), split_13a(reference)
    logarithms, smoothing, found_any = [], 1, False
    for n in range(1, MAX_ORDER + 1):
        counts = count_ngrams(words, n)
        if not (total := counts.total()):
            break
        found = (counts & count_ngrams(expected, n)).total()
        found_any = found_any or found > 0
        if not found:
            smoothing *= 2
        logarithms.append(math.log(found / total if found else 1 / (smoothing * total)))
    if not found_any:
        return 0.0
    brevity = min(0.0, 1 - len(expected) / len(words))
    return math.exp(brevity + sum(logarithms) / len(logarithms))


def gleu(text: str, reference: str) -> float:
    """Google's BLEU, 0 to 1: the smaller one of precision and recall over all sequences of 1 to 4 words.

    As NLTK's sentence_gleu on the words of `split_13a`. Source: Wu et al. 2016, section 4.1.
    """
    words, expected = split_13a(text), split_13a(reference)
    found = total = 0
    for n in range(1, MAX_ORDER + 1):
        counts, expected_counts = count_ngrams(words, n), count_ngrams(expected, n)
        found += (counts & expected_counts).total()
        total += max(len(words), len(expected)) - n + 1 if max(len(words), len(expected)) >= n else 0
    return found / total if total else 0.0
