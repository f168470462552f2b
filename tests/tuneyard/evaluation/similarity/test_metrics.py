"""Measures of text similarity: equal to the public libraries they name, and from 0 to 1 for any text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tuneyard.core.errors import EvaluationError
from tuneyard.evaluation.similarity.metrics import (
    MAX_CHARACTERS,
    MAX_FUZZY_CHARACTERS,
    TEXT_METRICS,
    TextMetric,
    text_similarity,
)
from tuneyard.evaluation.similarity.tokens import split_words

ROWS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "reference_scores.json").read_text())["rows"]
REFERENCED = [metric for metric in TEXT_METRICS if metric != "fuzzy_match"]
WORDS = st.lists(st.sampled_from(["the", "cat", "cats", "sat", "running", "1,000", "x-ray", "É", "."]), max_size=12)


@pytest.mark.parametrize("metric", REFERENCED)
def test_scores_are_those_of_the_libraries(metric: TextMetric) -> None:
    given_scores = [text_similarity(metric, row["text"], row["reference"]) for row in ROWS]
    assert given_scores == pytest.approx([min(row["scores"][metric], 1.0) for row in ROWS], abs=1e-12)


def test_fuzzy_match_ignores_case_marks_and_the_order_of_words() -> None:
    assert text_similarity("fuzzy_match", "Paris!", "paris") == 1.0
    assert text_similarity("fuzzy_match", "in Paris, France", "france in paris") == pytest.approx(0.95)
    score = text_similarity("fuzzy_match", "fuzzy wuzzy was a bear", "fuzzy wuzzy had no hair")
    assert score == pytest.approx(0.7556, abs=1e-4)
    assert text_similarity("fuzzy_match", "Paris", "Tokyo") < 0.5


@pytest.mark.parametrize("metric", TEXT_METRICS)
@given(text=st.text(max_size=80), reference=st.text(max_size=80))
@example(text="", reference="")
@example(text="-", reference="-")
def test_any_two_texts_have_a_score_from_0_to_1(metric: TextMetric, text: str, reference: str) -> None:
    assert 0.0 <= text_similarity(metric, text, reference) <= 1.0


@pytest.mark.parametrize("metric", TEXT_METRICS)
@given(words=WORDS, more=WORDS)
def test_the_reference_itself_scores_highest(metric: TextMetric, words: list[str], more: list[str]) -> None:
    text = " ".join(words)
    assert text_similarity(metric, text, text) >= text_similarity(metric, " ".join(more), text)


@given(words=WORDS, other=WORDS)
def test_rouge_does_not_depend_on_which_text_is_the_reference(words: list[str], other: list[str]) -> None:
    one, two = " ".join(words), " ".join(other)
    for metric in ("rouge_1", "rouge_2", "rouge_l"):
        assert text_similarity(metric, one, two) == pytest.approx(text_similarity(metric, two, one))


def test_words_of_any_script_are_compared() -> None:
    assert split_words("Übergrößen, 東京 und_ключ") == ["übergrößen", "東京", "und", "ключ"]
    assert text_similarity("rouge_1", "東京 タワー", "東京 駅") == pytest.approx(0.5)


def test_texts_that_are_too_long_are_refused_by_name() -> None:
    with pytest.raises(EvaluationError, match="The reference has 20,001 characters; rouge_l compares"):
        text_similarity("rouge_l", "short", "x" * (MAX_CHARACTERS + 1))
    with pytest.raises(EvaluationError, match="The input has 5,001 characters; fuzzy_match compares"):
        text_similarity("fuzzy_match", "x" * (MAX_FUZZY_CHARACTERS + 1), "short")
