"""Words of a text, as the measures count them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_SPLITS = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
_WORD = re.compile(r"[^\W_]+")


def split_13a(text: str) -> list[str]:
    """Words and marks of punctuation, by the rules of NIST's mteval-v13a.

    Source: sacrebleu 2.6, tokenizer `13a`.
    """
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    text = f" {text} "
    for pattern, replacement in _SPLITS:
        text = pattern.sub(replacement, text)
    return text.split()


def split_words(text: str) -> list[str]:
    """Runs of letters and digits, in lower case. For ASCII as in rouge-score 0.1, which drops all other letters."""
    return _WORD.findall(text.lower())


def ngrams(tokens: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """The sequences of `n` tokens, in order."""
    return zip(*(tokens[start:] for start in range(n)), strict=False)


def count_ngrams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    """How often each sequence of `n` tokens occurs."""
    return Counter(ngrams(tokens, n))
