"""The text tables that jobs.evaluate prints."""

from __future__ import annotations

from jobs.evaluation.score_tables import answers_table, score_table
from jobs.evaluation.scoring import Answer, Score


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
