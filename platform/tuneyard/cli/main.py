"""`tuneyard`: one command. Importing it loads neither torch nor ray."""

from __future__ import annotations

import argparse
import sys

from tuneyard import __version__
from tuneyard.cli.cluster import add_cluster_command
from tuneyard.cli.data import add_data_command
from tuneyard.cli.jobs import add_jobs_command
from tuneyard.cli.keys import add_keys_command
from tuneyard.cli.models import add_models_command
from tuneyard.cli.serve import add_serve_command
from tuneyard.core.command import run_command


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="tuneyard", description="Finetune GPT-OSS on your chats, and serve it.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_data_command(commands)
    add_jobs_command(commands)
    add_models_command(commands)
    add_serve_command(commands)
    add_keys_command(commands)
    add_cluster_command(commands)
    arguments = parser.parse_args(argv)
    return run_command(lambda: arguments.action(arguments))


if __name__ == "__main__":
    sys.exit(main())
