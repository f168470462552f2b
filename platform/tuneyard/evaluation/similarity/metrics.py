"""text_similarity: the score of a text against a reference, by the name that OpenAI's graders give the measure."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, get_args

from tuneyard.core.errors import EvaluationError

TextMetric = Literal[
    "fuzzy_match",
    "bleu",
    "gleu",
    "meteor",
    "rouge_1",
    "rouge_2",
    "rouge_3",
    "rouge_4",
    "rouge_5",
    "rouge_l",
]
TEXT_METRICS: tuple[TextMetric, ...] = get_args(TextMetric)

MAX_CHARACTERS = 20_000
"""Characters of each of the two texts."""
MAX_FUZZY_CHARACTERS = 5_000
"""Characters of each text for fuzzy_match, which looks for the shorter text everywhere in the longer one. On one core,
5,000 and 3,300 characters took 1.1 seconds, 20,000 and 7,000 took 18."""


def text_similarity(metric: TextMetric, text: str, reference: str) -> float:
    """The score from 0 to 1. Raises EvaluationError for a text of more than MAX_CHARACTERS or MAX_FUZZY_CHARACTERS."""
    most = MAX_FUZZY_CHARACTERS if metric == "fuzzy_match" else MAX_CHARACTERS
    for name, given in (("input", text), ("reference", reference)):
        if len(given) > most:
            raise EvaluationError(
                f"The {name} has {len(given):,} characters; {metric} compares texts of at most {most:,}."
            )
    return min(max(_measure_of(metric)(text, reference), 0.0), 1.0)


def _measure_of(metric: TextMetric) -> Callable[[str, str], float]:
    """Imported when it is used first: rapidfuzz and the stemmer are not part of a plain installation."""
    match metric:
        case "fuzzy_match":
            from tuneyard.evaluation.similarity.fuzzy import fuzzy_match

            return fuzzy_match
        case "bleu":
            from tuneyard.evaluation.similarity.bleu import bleu

            return bleu
        case "gleu":
            from tuneyard.evaluation.similarity.bleu import gleu

            return gleu
        case "meteor":
            from tuneyard.evaluation.similarity.meteor import meteor

            return meteor
        case "rouge_l":
            from tuneyard.evaluation.similarity.rouge import rouge_l

            return rouge_l
    from tuneyard.evaluation.similarity.rouge import rouge_n

    return functools.partial(rouge_n, n=int(metric.removeprefix("rouge_")))
