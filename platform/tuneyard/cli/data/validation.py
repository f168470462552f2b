"""`tuneyard data validate`: prints every problem of a chat file."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

from tuneyard.chats.instructions import instructions_advice
from tuneyard.chats.row_problems import RowProblem, Severity
from tuneyard.cli.data.inputs import load_codec, print_format, with_progress_bar
from tuneyard.cli.data.row_options import load_row_settings
from tuneyard.core.errors import DatasetError
from tuneyard.core.wording import count_of
from tuneyard.training_data.dataset_review import DatasetReview
from tuneyard.training_data.row_checks import RowChecker

COUNTED: tuple[Severity, ...] = ("error", "warning", "note")


def validate_files(arguments: argparse.Namespace) -> int:
    """The action; returns 1 when there is an error, or with --strict a warning, else 0."""
    if (arguments.model is None) != (arguments.max_length is None):
        raise DatasetError("--max-length and --model need each other: the model's tokenizer counts the tokens.")
    checker = RowChecker(load_codec(arguments.model) if arguments.model else None, arguments.max_length)
    settings = load_row_settings(arguments)
    reviews = [
        DatasetReview(location, settings, checker, is_heldout=is_heldout, accepts_pairs=True)
        for location, is_heldout in ((arguments.file, False), (arguments.heldout, True))
        if location is not None
    ]
    report = _print_json if arguments.json else _print_lines
    report(reviews, arguments.show)
    errors, warnings = (sum(review.counts.total(severity) for review in reviews) for severity in COUNTED[:2])
    return 1 if errors or (arguments.strict and warnings) else 0


def _problems_to_show(review: DatasetReview) -> Iterator[tuple[RowProblem, Severity]]:
    """The problems in the order of the rows; of those that are alike in every row, only the first."""
    shown: set[tuple[str, str]] = set()
    for row in with_progress_bar(review, "rows"):
        for problem, severity in row.problems:
            if problem.group is not None:
                alike = (problem.kind, problem.group)
                if alike in shown:
                    continue
                shown.add(alike)
            yield problem, severity


def _print_lines(reviews: list[DatasetReview], limit: int) -> None:
    hidden = printed = 0
    for review in reviews:
        for problem, severity in _problems_to_show(review):
            if limit and printed >= limit:
                hidden += 1
                continue
            printed += 1
            tqdm.write(f"{problem} [{severity}: {problem.kind}]")
        print_format(review.reader)
    if hidden:
        print(f"… and {hidden} more; --show 0 prints all")
    for severity in COUNTED:
        counts = sum((review.counts.of(severity) for review in reviews), Counter[str]())
        for kind, count in counts.most_common():
            print(f"{count:>8}  {kind} ({severity})")
    dropped = sum((review.counts.dropped for review in reviews), Counter[str]())
    for kind, count in dropped.most_common():
        print(f"{count:>8}  {kind} (rows left out)")
    totals = [(sum(review.counts.total(severity) for review in reviews), severity) for severity in COUNTED]
    found = ", ".join(count_of(count, severity) for count, severity in totals if count)
    rows = count_of(sum(review.rows_read for review in reviews), "row")
    if (instructions := reviews[0].instructions.text) is not None:
        print(instructions_advice(instructions))
    print(f"{rows}, {found or 'no problems'}")


def _print_json(reviews: list[DatasetReview], limit: int) -> None:
    listed: list[dict[str, Any]] = []
    hidden = 0
    for review in reviews:
        for problem, severity in _problems_to_show(review):
            if limit and len(listed) >= limit:
                hidden += 1
                continue
            listed.append({"where": problem.where, "severity": severity, "name": problem.kind, "text": problem.text})
    files = [
        {
            "location": review.reader.location,
            "format": review.reader.format,
            "title": review.reader.title,
            "rows": review.rows_read,
            "rows_to_train_on": review.rows,
            "counts": {severity: dict(review.counts.of(severity)) for severity in COUNTED},
            "dropped": dict(review.counts.dropped),
            "shared_system_message": review.instructions.text,
        }
        for review in reviews
    ]
    print(json.dumps({"files": files, "problems": listed, "problems_not_listed": hidden}, indent=2))
