"""The options of commands that measure a loss before and after: which chats, how many of them, how far it may rise."""

from __future__ import annotations

import argparse
import math

MAX_LOSS_INCREASE = 0.05
"""nats per token."""


def add_loss_options(parser: argparse.ArgumentParser, max_rows: int) -> None:
    """Adds --heldout, --rows with the default `max_rows`, and --max-loss-increase."""
    parser.add_argument(
        "--heldout", metavar="FILE", help="chats to measure the loss on; default: those of the source's training run"
    )
    parser.add_argument(
        "--rows",
        type=_positive,
        default=max_rows,
        help="largest number of rows to measure on; default: %(default)s",
    )
    parser.add_argument(
        "--max-loss-increase",
        type=_finite,
        default=MAX_LOSS_INCREASE,
        metavar="NATS",
        help="largest allowed increase of the loss, in nats per token; default: %(default)s",
    )


def _finite(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"must be a finite number, found {text!r}")
    return number


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, found {text!r}")
    return number
