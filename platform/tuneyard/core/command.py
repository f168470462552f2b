"""Shared parts of all command lines: config arguments, exit codes, and errors printed without a traceback."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from tuneyard.core.errors import TuneyardError
from tuneyard.core.job_secrets import load_job_secrets
from tuneyard.core.wording import printable

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""The return type of `ArgumentParser.add_subparsers`."""

Options: TypeAlias = "argparse.ArgumentParser | argparse._ArgumentGroup"
"""What options can be added to: a parser, or a part of it with a heading of its own in the help."""


def add_command(commands: Commands, name: str, summary: str, epilog: str = "") -> argparse.ArgumentParser:
    """Adds a subcommand. `summary`, without a full stop, is its line in the parent's help and begins its own help.

    `epilog` ends its own help, line breaks kept.
    """
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def local_path(text: str) -> Path:
    """The path that an option gives for what a command writes; a `type` for `add_argument`.

    Refuses a URI, of which Path would make a folder such as `s3:` in the working directory, and an empty text, which
    Path takes for the working directory itself.
    """
    if not text or "://" in text:
        raise argparse.ArgumentTypeError(f"must be a path on a disk of this machine, found {text!r}")
    return Path(text)


def add_overrides(parser: Options) -> None:
    """Adds the option --set; its values are in `overrides`."""
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="override a field of the config; repeatable",
    )


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options --config, --set, --address and --verbose."""
    parser.add_argument("--config", type=Path, required=True, help="YAML file of the config")
    add_overrides(parser)
    parser.add_argument(
        "--address",
        help="address of the Ray cluster; default: RAY_ADDRESS, else a Ray that runs on this machine, else a new "
        "private Ray; `local`: always a new private Ray",
    )
    parser.add_argument("--verbose", action="store_true", help="show the logs of Ray and of the workers")


def run_command(action: Callable[[], object], on_interrupt: str = "Interrupted.") -> int:
    """Runs the action of an entry point and returns the exit code.

    The code is the action's result if that is an int, else 0. A TuneyardError is printed and gives 1; Ctrl-C and
    SIGTERM print `on_interrupt` and give 130.
    """
    # Set explicitly: a shell starts background commands with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    load_job_secrets()
    try:
        result = action()
    except TuneyardError as e:
        # It may quote names and values from files that others wrote.
        print(f"error: {printable(str(e), keep=chr(10) + chr(9))}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of the output closed it, as `| head` does. Without a new stdout, Python would report the broken
        # pipe again on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"\n{on_interrupt}", file=sys.stderr)
        return 130
    return result if type(result) is int else 0
