"""Scoring: what counts as right, and how it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.evaluate import Answer, Endpoint, Score, answers_table, main, score_table
from tuneyard.errors import ConfigError


def score(model: str, *answers: Answer) -> Score:
    return Score(model, len(answers), 0.5, 0.25, 1.0, answers)


def test_tables_show_shares_and_ticks() -> None:
    right = Answer("What is it?", "It is\n42.", True, False, True)
    wrong = Answer("What is it?", "", False, False, False)
    scores = [score("base", wrong), score("tuned-model", right)]
    assert "tuned-model     1                50%           25%         100%" in score_table(scores)
    table = answers_table(scores, rows=5).splitlines()
    assert table[0] == "? What is it?"
    assert table[1].split() == ["base", "✗", "(nothing)"]
    assert table[2].split() == ["tuned-model", "✓", "It", "is", "42."]


def test_endpoints_are_model_and_url() -> None:
    assert Endpoint.parse("m=http://h/v1") == Endpoint("m", "http://h/v1")
    for text in ("m", "=http://h", "m=ftp://h"):
        with pytest.raises(ConfigError, match="expected MODEL=BASE_URL"):
            Endpoint.parse(text)


def test_a_dead_endpoint_is_an_error_without_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    data = Path("jobs/data/brindle_heldout.jsonl")
    code = main(["--data", str(data), "--model", "m=http://127.0.0.1:9/v1", "--limit", "1", "--show", "0"])
    assert code == 1
    assert "m at http://127.0.0.1:9/v1 does not answer" in capsys.readouterr().err
