"""The options --days and --since of commands that show what happened."""

from __future__ import annotations

import argparse
import datetime

from tuneyard.core.errors import ConfigError


def add_since_options(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds the options, of which one may be given; `default` says where the output begins without them."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--days", metavar="N", help=f"the last N days, today included (default: since {default})")
    group.add_argument("--since", metavar="DATE", help="from this day on, such as 2026-01-31")


def first_day(arguments: argparse.Namespace, today: datetime.date) -> datetime.date | None:
    """The first day to show, in UTC; None if neither option was given. Raises ConfigError for an unusable value."""
    if arguments.days is not None:
        if not (arguments.days.isascii() and arguments.days.isdigit() and 0 < int(arguments.days) <= 100_000):
            raise ConfigError(f"--days {arguments.days}: must be a whole number that is at least 1.")
        return today - datetime.timedelta(days=int(arguments.days) - 1)
    if arguments.since is not None:
        try:
            return datetime.date.fromisoformat(arguments.since)
        except ValueError as e:
            raise ConfigError(f"--since {arguments.since}: write a date such as 2026-01-31.") from e
    return None
