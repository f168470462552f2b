"""`tuneyard`: one command. Importing it loads neither torch nor ray."""

from __future__ import annotations

import argparse
import sys

from tuneyard import __version__
from tuneyard.cluster_command import add_cluster_command
from tuneyard.command import run_command
from tuneyard.data_command import add_data_command
from tuneyard.jobs_command import add_jobs_command
from tuneyard.keys_command import add_keys_command
from tuneyard.models_command import add_models_command
from tuneyard.serve_command import add_serve_command


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
