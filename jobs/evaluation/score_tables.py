"""Scores and answers of several models as text tables, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.evaluation.scoring import Score

MAX_ANSWER_CHARACTERS = 100


def score_table(scores: Sequence[Score]) -> str:
    """A row of shares per model, under a header."""
    width = max(len(score.model) for score in scores)
    lines = [f"{'model':{width}}  {'rows':>4}  contains the fact  exact answer  well-formed"]
    lines += [
        f"{s.model:{width}}  {s.rows:4}  {s.contains:17.0%}  {s.exact:12.0%}  {s.well_formed:11.0%}" for s in scores
    ]
    return "\n".join(lines)


def answers_table(scores: Sequence[Score], rows: int) -> str:
    """The first `rows` questions, each followed by every model's answer; ✓ marks the right ones."""
    width = max(len(score.model) for score in scores)
    lines = []
    for index in range(min(rows, scores[0].rows)):
        lines.append(f"? {scores[0].answers[index].question}")
        for score in scores:
            answer = score.answers[index]
            text = " ".join(answer.text.split()) or "(nothing)"
            lines.append(f"    {score.model:{width}}  {'✓' if answer.contains else '✗'} {text[:MAX_ANSWER_CHARACTERS]}")
    return "\n".join(lines)
