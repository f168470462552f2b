"""The bytes of tokens are the same whether they are kept or not, and not all of a large vocabulary are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuneyard.harmony import vocabulary
from tuneyard.harmony.vocabulary import ModelVocabulary


def test_only_so_many_are_kept(tiny_oss: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = range(1100)
    expected = [ModelVocabulary(tiny_oss).token_bytes(token) for token in every]
    assert len({data for data in expected if data}) > 256
    monkeypatch.setattr(vocabulary, "MAX_KNOWN_TOKENS", 100)
    small = ModelVocabulary(tiny_oss)
    for _ in range(2):
        assert [small.token_bytes(token) for token in every] == expected
    assert len(small._known_bytes) == 100
