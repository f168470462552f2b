"""`python -m jobs.evaluate`: asks served models the questions of a chat file, and compares how many they answer right.

    python -m jobs.evaluate --data jobs/data/brindle_heldout.jsonl \\
        --model smol-oss-135m=http://127.0.0.1:8000/base/v1 --model brindle-support=http://127.0.0.1:8000/v1
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tuneyard.cli.data.row_options import add_row_options, load_row_settings
from tuneyard.core.command import run_command

MAX_TOKENS = 1024
"""Per answer, reasoning included."""

EPILOG = """\
An answer counts as right when it contains every string of the row's `metadata.must_contain` (upper and lower case are
the same); for a row without that field, when it equals the row's last assistant message. A tool call is compared by its
name and arguments. Answers are generated greedily. The API key is read from OPENAI_API_KEY, if that is set.
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.evaluate",
        description="Ask served models the questions of a chat file, and compare how many they answer right.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="chat file; each row's last assistant message is the expected answer"
    )
    parser.add_argument(
        "--model", action="append", required=True, metavar="MODEL=BASE_URL", help="a served model; repeatable"
    )
    add_row_options(parser)
    parser.add_argument("--limit", type=int, help="largest number of rows to ask, spread evenly over the file")
    parser.add_argument(
        "--max-tokens",
        type=int,
        default=MAX_TOKENS,
        metavar="N",
        help="limit per answer, reasoning included; an answer cut off there is not well-formed (default: %(default)s)",
    )
    parser.add_argument(
        "--show", type=int, default=5, metavar="N", help="print the first N questions with all answers (default: 5)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write scores and answers to this file")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    from jobs.evaluation.comparison import compare_models

    compare_models(
        str(arguments.data),
        arguments.model,
        load_row_settings(arguments),
        limit=arguments.limit,
        max_tokens=arguments.max_tokens,
        shown_rows=arguments.show,
        json_path=arguments.json,
    )


if __name__ == "__main__":
    sys.exit(main())
