"""Compares served models on a chat file: asks each, prints the tables, and writes the scores as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from jobs.evaluation.row_choice import spread_rows
from jobs.evaluation.score_tables import answers_table, score_table
from jobs.evaluation.served_model import Endpoint, evaluate
from tuneyard.chats.dataset import load_chat_dataset
from tuneyard.chats.row_settings import RowSettings
from tuneyard.core.errors import ConfigError, DatasetError


def compare_models(
    data: str,
    models: Sequence[str],
    settings: RowSettings | None = None,
    *,
    limit: int | None,
    max_tokens: int,
    shown_rows: int,
    json_path: Path | None,
) -> None:
    """Asks every model (`MODEL=BASE_URL`) the questions of the chat file `data`, and prints how each scores.

    `settings` say how its rows become chats. `limit` is the largest number of rows, spread evenly over the file; None
    asks all. `shown_rows` questions are printed with all answers. Raises ConfigError, DatasetError, and EngineError
    when a model does not answer.
    """
    endpoints = [Endpoint.parse(text) for text in models]
    examples = load_chat_dataset(data, settings).examples
    if limit is not None and limit < 1:
        raise DatasetError(f"--limit {limit}: must be at least 1.")
    if limit is not None:
        examples = [examples[row] for row in spread_rows(len(examples), limit)]
    if max_tokens < 1:
        raise ConfigError(f"--max-tokens {max_tokens}: must be at least 1.")
    scores = [evaluate(endpoint, examples, max_tokens) for endpoint in endpoints]
    if shown_rows:
        print(answers_table(scores, shown_rows))
    print(score_table(scores), flush=True)
    if json_path is not None:
        json_path.write_text(json.dumps([asdict(score) for score in scores], indent=1), encoding="utf-8")
