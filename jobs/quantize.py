"""`python -m jobs.quantize SOURCE --format mxfp4`: converts a checkpoint's experts to MXFP4, and measures the loss.

MXFP4 is the form in which OpenAI publishes GPT-OSS; it takes a quarter of the memory of BF16.

python -m jobs.quantize acme-support@newest --format mxfp4
"""

from __future__ import annotations

import argparse
import sys

from jobs.checkpoints.loss_options import add_loss_options
from tuneyard.core.command import local_path, run_command

MAX_ROWS = 256
"""Rows on which the loss is measured by default."""

EPILOG = """\
SOURCE is name@alias or name/version in the registry, or a checkpoint folder. The result is a new checkpoint with the
source's lineage. It is reloaded and its loss on held-out chats is compared with the source's: if the loss rises by more
than --max-loss-increase, nothing is published. The manifest holds both losses.

Only the experts' weight matrices change. Values that MXFP4 can represent stay as they are, so experts that were not
trained lose nothing. Writing needs the memory of one shard; measuring the loss loads the model (on a CPU in fp32).

examples:
  python -m jobs.quantize acme-support@newest --format mxfp4
  python -m jobs.quantize acme-support/3 --format mxfp4 --name acme-support-small --max-loss-increase 0.1
  python -m jobs.quantize /models/acme --format mxfp4 --heldout heldout.jsonl --output /models/acme-mxfp4
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = _parse(argv)
    return run_command(lambda: _run(arguments), on_interrupt="Interrupted. No half-written checkpoint was left.")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.quantize",
        description="Quantise a checkpoint's experts, and measure what that costs on held-out chats.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="name@alias, name/version or a checkpoint folder")
    parser.add_argument("--format", choices=("mxfp4",), required=True, help="mxfp4: the format of openai/gpt-oss")
    parser.add_argument("--name", help="name of the result in the registry; default: the source's name with -mxfp4")
    parser.add_argument("--output", type=local_path, metavar="DIR", help="write to this folder and register nothing")
    add_loss_options(parser, MAX_ROWS)
    return parser.parse_args(argv)


def _run(arguments: argparse.Namespace) -> None:
    from jobs.checkpoints.quantised_version import quantise_version

    quantise_version(
        arguments.source,
        name=arguments.name,
        output=arguments.output,
        heldout=arguments.heldout,
        max_rows=arguments.rows,
        max_loss_increase=arguments.max_loss_increase,
    )


if __name__ == "__main__":
    sys.exit(main())
