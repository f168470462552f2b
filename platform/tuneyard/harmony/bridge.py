"""Translates harmony's o200k token ids to the ids of a model with another vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

import openai_harmony as oh

from tuneyard.harmony.tokenizer_file.tokenizer_rules import SPECIAL_TOKENS
from tuneyard.harmony.vocabulary import ModelVocabulary


class VocabularyBridge:
    """Translates o200k ids to ids of `vocabulary`. For GPT-OSS, whose vocabulary is o200k, the ids stay the same."""

    def __init__(self, encoding: oh.HarmonyEncoding, vocabulary: ModelVocabulary) -> None:
        self._encoding = encoding
        self._vocabulary = vocabulary
        self._special = {self.o200k_id(token): vocabulary.special_id(token) for token in SPECIAL_TOKENS}

    def o200k_id(self, token: str) -> int:
        """Harmony's id of a special token."""
        return int(self._encoding.encode(token, allowed_special={token})[0])

    def to_model_ids(self, o200k_ids: Sequence[int]) -> list[int]:
        """The model's ids: special tokens by name, the text between them encoded by the model's tokenizer."""
        ids: list[int] = []
        text: list[int] = []
        for token_id in [*o200k_ids, None]:
            if token_id is not None and token_id not in self._special:
                text.append(token_id)
                continue
            if text:
                ids += self._vocabulary.encode_text(self._encoding.decode(text))
                text = []
            if token_id is not None:
                ids.append(self._special[token_id])
        return ids
