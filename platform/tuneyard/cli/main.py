"""The command `tuneyard`. Each group of subcommands has its own module or folder."""

from __future__ import annotations

import argparse
import sys

from tuneyard import __version__
from tuneyard.cli.audit import add_audit_command
from tuneyard.cli.cluster import add_cluster_command
from tuneyard.cli.data.commands import add_data_command
from tuneyard.cli.jobs.commands import add_jobs_command
from tuneyard.cli.keys.commands import add_keys_command
from tuneyard.cli.models import add_models_command
from tuneyard.cli.platform_commands import add_platform_command
from tuneyard.cli.serve import add_serve_command
from tuneyard.core.command import run_command

EPILOG = """\
`tuneyard COMMAND --help` and `tuneyard COMMAND SUBCOMMAND --help` show options, defaults and examples.

a first run on your own chats:
  tuneyard data validate chats.jsonl
  tuneyard jobs submit my.yaml
  tuneyard serve deploy serve_apps/configs/demo_cpu.yaml
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    return run_command(lambda: arguments.action(arguments))


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `tuneyard`. Parsed arguments hold the subcommand's function in `action`."""
    parser = argparse.ArgumentParser(
        prog="tuneyard",
        description="Finetune GPT-OSS on your own chats and serve it from your own Ray cluster.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_data_command(commands)
    add_jobs_command(commands)
    add_models_command(commands)
    add_serve_command(commands)
    add_platform_command(commands)
    add_keys_command(commands)
    add_audit_command(commands)
    add_cluster_command(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
