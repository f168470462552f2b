"""`python -m jobs.finetune`: validates, trains on Ray, exports, proves and registers one run.

python -m jobs.finetune --config jobs/configs/demo_cpu.yaml
RAY_AUTH_MODE=token ray job submit --working-dir . --runtime-env-json '{"py_modules": ["platform/tuneyard"]}' -- \\
    python -m jobs.finetune --config jobs/configs/demo_cpu.yaml
"""

from __future__ import annotations

import argparse
import sys

from tuneyard.core.command import add_config_arguments, run_command

EPILOG = """\
examples:
  python -m jobs.finetune --config jobs/configs/demo_cpu.yaml
  python -m jobs.finetune --config jobs/configs/demo_cpu.yaml --set training.epochs=1 --set run.name=quick
  python -m jobs.finetune --config my.yaml --dry-run      validate everything, print the resolved config

A run that crashed or was interrupted continues from its last checkpoint when the same run.name is started again.
All fields of the config: platform/tuneyard/configs/finetune.py
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.finetune",
        description="Finetune GPT-OSS on a file of chats, on Ray; export, prove and register the result.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="validate, print the resolved config and start nothing")
    arguments = parser.parse_args(argv)
    return run_command(
        lambda: _run(arguments),
        on_interrupt="Interrupted. Checkpoints are kept: run the same command again to continue from the last one.",
    )


def _run(arguments: argparse.Namespace) -> None:
    from jobs.runs.finetuning import finetune
    from tuneyard.configs.finetune import FinetuneConfig
    from tuneyard.core.config_loading import load_config

    config = load_config(FinetuneConfig, arguments.config, arguments.overrides)
    finetune(config, address=arguments.address, dry_run=arguments.dry_run, verbose=arguments.verbose)


if __name__ == "__main__":
    sys.exit(main())
