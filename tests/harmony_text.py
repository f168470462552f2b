"""Turns harmony text that tests spell out into the token ids that a model would produce."""

from __future__ import annotations

import re
from pathlib import Path

from tuneyard.harmony.tokenizer_file.tokenizer_rules import SPECIAL_TOKENS
from tuneyard.harmony.vocabulary import ModelVocabulary

_SPECIAL = re.compile("(" + "|".join(map(re.escape, (*SPECIAL_TOKENS, "<|endoftext|>"))) + ")")


def encode_spelled_out(checkpoint: Path, text: str) -> list[int]:
    """The ids of a text in which "<|end|>" and other names stand for the special tokens."""
    vocabulary = ModelVocabulary(checkpoint)
    ids: list[int] = []
    for piece in _SPECIAL.split(text):
        ids += [vocabulary.special_id(piece)] if _SPECIAL.fullmatch(piece) else vocabulary.encode_text(piece)
    return ids
