"""Harmony spelled out in tests -> token ids, as a model would produce them."""

from __future__ import annotations

import re
from pathlib import Path

from tuneyard.harmony.vocabulary import SPECIAL_TOKENS, ModelVocabulary

_SPECIAL = re.compile("(" + "|".join(map(re.escape, (*SPECIAL_TOKENS, "<|endoftext|>"))) + ")")


def encode_spelled_out(checkpoint: Path, text: str) -> list[int]:
    """Ids of text in which "<|end|>" and the like mean the special tokens."""
    vocabulary = ModelVocabulary(checkpoint)
    ids: list[int] = []
    for piece in _SPECIAL.split(text):
        ids += [vocabulary.special_id(piece)] if _SPECIAL.fullmatch(piece) else vocabulary.encode_text(piece)
    return ids
