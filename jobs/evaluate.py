"""`python -m jobs.evaluate`: measures models on a chat file, or on tasks of lm-evaluation-harness, side by side.

    python -m jobs.evaluate --data jobs/data/brindle_heldout.jsonl \\
        --model smol-oss-135m=http://127.0.0.1:8000/base/v1 --model brindle-support=http://127.0.0.1:8000/v1
    python -m jobs.evaluate --tasks arc_easy brindle-support@newest
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tuneyard.cli.data.row_options import add_row_options, load_row_settings
from tuneyard.core.command import local_path, run_command

MAX_TOKENS = 1024
"""Per answer to a chat of --data, reasoning included."""

SHOWN_ROWS = 5

EPILOG = """\
--data: an answer counts as right when it contains every string of the row's `metadata.must_contain` (upper and lower
case are the same); for a row without that field, when it equals the row's last assistant message. A tool call is
compared by its name and arguments. Answers are generated greedily.

--tasks: tasks of lm-evaluation-harness by their names (pip install 'tuneyard[lm-eval]'). Tasks that compare a generated
answer are asked as chats, as the model is used; tasks that score given texts (multiple choice, perplexity) as plain
text. Nothing is downloaded without --download: no data, no metrics, nothing that a task's own code fetches. A task's
files can hold code, which is run: give no folder that you do not trust. --json is written after each model, and the
table is printed for what is finished when a later model fails.

The API key of served models is read from OPENAI_API_KEY, if that is set.

examples:
  python -m jobs.evaluate --data heldout.jsonl --model brindle-support=http://127.0.0.1:8000/v1
  python -m jobs.evaluate --tasks gsm8k --model brindle-support=http://127.0.0.1:8000/v1 --json scores.json
  python -m jobs.evaluate --tasks arc_easy,acme_faq --task-folder tasks brindle-support@newest /models/base
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    _check_combination(parser, arguments)
    return run_command(lambda: _run_chats(arguments) if arguments.data else _run_tasks(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.evaluate",
        description="Measure models on a chat file, or on tasks of lm-evaluation-harness, side by side.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "checkpoints",
        nargs="*",
        metavar="CHECKPOINT",
        help="with --tasks: name@alias, name/version or a checkpoint folder, which is loaded here with transformers",
    )
    parser.add_argument("--data", type=Path, help="chat file; each row's last assistant message is the expected answer")
    parser.add_argument("--tasks", metavar="NAME[,NAME]", help="tasks, groups or tags of lm-evaluation-harness")
    parser.add_argument(
        "--model", action="append", default=[], metavar="MODEL=BASE_URL", help="a served model; repeatable"
    )
    parser.add_argument(
        "--limit", type=int, help="largest number of rows to ask, of each task; they are spread evenly over the file"
    )
    parser.add_argument(
        "--max-tokens",
        type=int,
        metavar="N",
        help=f"limit per answer, reasoning included; an answer that is cut off there is not well-formed "
        f"(default: {MAX_TOKENS}; with --tasks: the task's own limit, else {MAX_TOKENS})",
    )
    parser.add_argument("--json", type=local_path, metavar="FILE", help="write scores and answers to this file")
    chats = parser.add_argument_group("options of --data")
    add_row_options(chats)
    chats.add_argument(
        "--show", type=int, metavar="N", help=f"print the first N questions with all answers (default: {SHOWN_ROWS})"
    )
    tasks = parser.add_argument_group("options of --tasks")
    tasks.add_argument("--task-folder", type=Path, metavar="DIR", help="your own task files (*.yaml)")
    tasks.add_argument(
        "--fewshot",
        type=int,
        metavar="N",
        help="solved examples before each question; tasks whose own file says num_fewshot: 0 have none",
    )
    tasks.add_argument(
        "--as-text", action="store_true", help="ask tasks that compare a generated answer as plain text, not as chats"
    )
    tasks.add_argument(
        "--tokenizer",
        metavar="CHECKPOINT",
        help="checkpoint with the served models' tokenizer, for tasks that score given texts",
    )
    tasks.add_argument(
        "--download",
        action="store_true",
        help="fetch data and metrics that are not on this machine; metrics of the Hugging Face Hub are Python, which "
        "is run",
    )
    return parser


def _check_combination(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Ends the program with the usage for options that do not belong together."""
    if (arguments.data is None) == (arguments.tasks is None):
        parser.error("give either --data FILE or --tasks NAME[,NAME]")
    if arguments.data is not None:
        if not arguments.model:
            parser.error("--data needs a served model: --model MODEL=BASE_URL")
        foreign = {
            "CHECKPOINT": arguments.checkpoints,
            "--task-folder": arguments.task_folder,
            "--fewshot": arguments.fewshot is not None,
            "--as-text": arguments.as_text,
            "--tokenizer": arguments.tokenizer,
            "--download": arguments.download,
        }
    else:
        if not arguments.model and not arguments.checkpoints:
            parser.error("--tasks needs a CHECKPOINT or a served model: --model MODEL=BASE_URL")
        foreign = {
            "--format": arguments.format,
            "--config": arguments.config,
            "--set": arguments.overrides,
            "--show": arguments.show is not None,
        }
    given = [option for option, value in foreign.items() if value]
    if given:
        parser.error(f"{', '.join(given)}: not allowed with {'--data' if arguments.data is not None else '--tasks'}")


def _run_chats(arguments: argparse.Namespace) -> None:
    from jobs.evaluation.comparison import compare_models

    compare_models(
        str(arguments.data),
        arguments.model,
        load_row_settings(arguments),
        limit=arguments.limit,
        max_tokens=MAX_TOKENS if arguments.max_tokens is None else arguments.max_tokens,
        shown_rows=SHOWN_ROWS if arguments.show is None else arguments.show,
        json_path=arguments.json,
    )


def _run_tasks(arguments: argparse.Namespace) -> None:
    from jobs.evaluation.tasks.comparison import TaskSettings, compare_on_tasks

    settings = TaskSettings(
        names=tuple(name.strip() for name in arguments.tasks.split(",") if name.strip()),
        folder=arguments.task_folder,
        as_text=arguments.as_text,
        fewshot=arguments.fewshot,
        limit=arguments.limit,
        max_tokens=arguments.max_tokens,
        tokenizer=arguments.tokenizer,
        download=arguments.download,
    )
    compare_on_tasks(arguments.model, arguments.checkpoints, settings, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
