"""What the command lines share: arguments of a config, and errors without tracebacks."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from tuneyard.core.errors import TuneyardError

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What `add_subparsers` gives."""


def add_command(commands: Commands, name: str, what: str, epilog: str) -> argparse.ArgumentParser:
    """A command whose help ends with `epilog` as it is written."""
    return commands.add_parser(name, help=what, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Adds --set."""
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="override a field; repeatable",
    )


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds config, overrides, address and verbose."""
    parser.add_argument("--config", type=Path, required=True, help="YAML file")
    add_overrides(parser)
    parser.add_argument(
        "--address", help="Ray cluster; default: RAY_ADDRESS, a running one, or else a private one. `local`: private"
    )
    parser.add_argument("--verbose", action="store_true", help="show the logs of Ray and of the workers")


def run_command(action: Callable[[], object], on_interrupt: str = "Interrupted.") -> int:
    """Runs an entry point's action. The exit code: the int that it returns, else 0; 1 with a message for a
    user's mistake; 130 on Ctrl-C or SIGTERM.
    """
    # Explicitly, because a shell starts background commands with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        result = action()
    except TuneyardError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read the output has seen enough, as `| head` does; and no second complaint when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"\n{on_interrupt}", file=sys.stderr)
        return 130
    return result if type(result) is int else 0
