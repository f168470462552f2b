"""`tuneyard data validate`: prints every problem of a chat file."""

from __future__ import annotations

import argparse

from tqdm import tqdm

from tuneyard.chats.row_reader import ChatRowReader
from tuneyard.cli.data.inputs import load_codec, print_format, with_progress_bar
from tuneyard.core.errors import DatasetError
from tuneyard.core.wording import count_of
from tuneyard.training_data.row_checks import NOTE_KINDS, RowChecker, ValidationCounts, validate_dataset


def validate_files(arguments: argparse.Namespace) -> int:
    """The action; returns 1 when there is a problem, else 0."""
    if (arguments.model is None) != (arguments.max_length is None):
        raise DatasetError("--max-length and --model need each other: the model's tokenizer counts the tokens.")
    checker = RowChecker(load_codec(arguments.model) if arguments.model else None, arguments.max_length)
    counts = ValidationCounts()
    reported = 0
    for location in filter(None, (arguments.file, arguments.heldout)):
        reader = ChatRowReader(location, arguments.format)
        is_heldout = location == arguments.heldout
        for problem in validate_dataset(
            with_progress_bar(reader, "rows"), checker, counts, location, is_heldout=is_heldout
        ):
            reported += 1
            if not arguments.show or reported <= arguments.show:
                tqdm.write(f"{problem}{_note(problem.kind)}")
        print_format(reader)
    if arguments.show and reported > arguments.show:
        print(f"… and {reported - arguments.show} more; --show 0 prints all")
    for kind, count in counts.by_kind.most_common():
        print(f"{count:>8}  {kind}{_note(kind)}")
    problems = count_of(counts.problems, "problem") if counts.problems else "no problems"
    print(f"{counts.rows} rows, {problems}")
    return 1 if counts.problems else 0


def _note(kind: str) -> str:
    return " (note)" if kind in NOTE_KINDS else ""
