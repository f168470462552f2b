"""The parsers of `tuneyard data` and its subcommands."""

from __future__ import annotations

import argparse

from tuneyard.cli.data.row_options import add_row_options
from tuneyard.core.command import Commands, add_command

DEFAULT_MODEL = "$TUNEYARD_HOME/models/base/smol-oss-135m"
FILE_FORMS = """\
FILE is a file (.jsonl .json .csv .parquet, each also as .gz or .zst), a folder of such files, a pattern such as
data/train-*, a dataset written by datasets.save_to_disk, a URI (s3://…, gs://…), or hf:owner/name[#config][:split].
The format of its rows is detected.
"""
EPILOG = f"""\
{FILE_FORMS}
examples:
  tuneyard data validate chats.jsonl --heldout heldout.jsonl
  tuneyard data stats chats.jsonl --max-length 1024 --json
  tuneyard data preview chats.jsonl -n 3
  tuneyard data parity support@newest --base-url http://127.0.0.1:8000/v1
"""
VALIDATE_EPILOG = f"""\
{FILE_FORMS}
Prints every problem with its file, line, fix, severity and name, and counts them. Exit code 1 if there is an error;
with --strict also if there is a warning. `data.problems` of the config changes severities by name, and drops rows.

examples:
  tuneyard data validate chats.jsonl --set data.problems.duplicate=drop --strict
  tuneyard data validate chats.jsonl --heldout heldout.jsonl
  tuneyard data validate chats.jsonl --model my-base/ --max-length 2048
"""
STATS_EPILOG = f"""\
{FILE_FORMS}
Tokens are counted as training renders the rows. Steps per epoch are for --batch-size rows per step.

examples:
  tuneyard data stats chats.jsonl
  tuneyard data stats chats.jsonl --max-length 1024 --batch-size 16 --json
"""
PREVIEW_EPILOG = f"""\
{FILE_FORMS}
Shows each row with all special tokens, once for each turn that is trained on; a preference pair with each answer. On a
terminal, trained tokens are coloured; elsewhere they stand between ⟦ and ⟧. The format is named first, and the columns
that data.columns maps.

examples:
  tuneyard data preview qa.csv --set data.columns.prompt=question --set data.columns.completion=answer
  tuneyard data preview chats.jsonl -n 3
  tuneyard data preview chats.jsonl -n 1 --ids
"""
PARITY_EPILOG = """\
A finetuned model's manifest keeps prompts of its training with their token ids. This command renders the same prompts
again, with this installation or at a running endpoint, and fails at the first token that differs.

examples:
  tuneyard data parity support@newest
  tuneyard data parity support@newest --base-url http://127.0.0.1:8000/v1
"""


def add_data_command(commands: Commands) -> None:
    """Adds `data` and its subcommands."""
    data = add_command(commands, "data", "check and preview chat files", EPILOG)
    subcommands = data.add_subparsers(required=True, metavar="COMMAND")
    _add_validate(subcommands)
    _add_stats(subcommands)
    _add_preview(subcommands)
    _add_parity(subcommands)


def _add_validate(subcommands: Commands) -> None:
    parser = add_command(subcommands, "validate", "report every problem of a chat file", VALIDATE_EPILOG)
    _add_file_arguments(parser)
    parser.add_argument(
        "--heldout", metavar="FILE", help="held-out chats, checked too, and compared with FILE for leaked rows"
    )
    parser.add_argument("--model", help="checkpoint folder whose tokenizer counts tokens for --max-length")
    parser.add_argument(
        "--max-length",
        type=int,
        metavar="TOKENS",
        help="report rows with more tokens; needs --model (default: no limit)",
    )
    parser.add_argument(
        "--show", type=int, default=50, metavar="N", help="problems to print; 0 prints all (default: %(default)s)"
    )
    parser.add_argument("--strict", action="store_true", help="exit with code 1 for warnings too")
    parser.add_argument("--json", action="store_true", help="print JSON (default: lines of text)")
    parser.set_defaults(action=_validate)


def _add_stats(subcommands: Commands) -> None:
    parser = add_command(
        subcommands, "stats", "show a chat file's rows, turns, tokens, packing and steps per epoch", STATS_EPILOG
    )
    _add_file_arguments(parser)
    _add_model_argument(parser)
    parser.add_argument(
        "--max-length",
        type=int,
        default=2048,
        metavar="TOKENS",
        help="longest row that is trained on, and size of a pack (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-size", type=int, default=4, metavar="ROWS", help="rows per step on all workers (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON (default: a table)")
    parser.set_defaults(action=_stats)


def _add_preview(subcommands: Commands) -> None:
    parser = add_command(subcommands, "preview", "show rows as the model is trained on them", PREVIEW_EPILOG)
    _add_file_arguments(parser)
    _add_model_argument(parser)
    parser.add_argument("-n", type=int, default=3, metavar="ROWS", help="rows to show (default: %(default)s)")
    parser.add_argument("--ids", action="store_true", help="print the token ids below each text")
    parser.set_defaults(action=_preview)


def _add_parity(subcommands: Commands) -> None:
    parser = add_command(
        subcommands, "parity", "check that a model's prompts are rendered as in its training", PARITY_EPILOG
    )
    parser.add_argument("model", metavar="MODEL", help="name@alias, name/version or a checkpoint folder")
    parser.add_argument(
        "--base-url",
        metavar="URL",
        help="base URL of an endpoint that serves it (default: render with this installation)",
    )
    parser.add_argument(
        "--model-id", help="the model's id at the endpoint (default: the first model that the endpoint lists)"
    )
    parser.set_defaults(action=_parity)


def _add_file_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the chats; see below")
    add_row_options(parser)


def _add_model_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help="checkpoint folder whose tokenizer is used (default: %(default)s)"
    )


def _validate(arguments: argparse.Namespace) -> int:
    from tuneyard.cli.data.validation import validate_files

    return validate_files(arguments)


def _stats(arguments: argparse.Namespace) -> None:
    from tuneyard.cli.data.stats import print_stats

    print_stats(arguments)


def _preview(arguments: argparse.Namespace) -> None:
    from tuneyard.cli.data.preview import print_preview

    print_preview(arguments)


def _parity(arguments: argparse.Namespace) -> None:
    from tuneyard.cli.data.parity import check_model_parity

    check_model_parity(arguments)
