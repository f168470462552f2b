"""`tuneyard keys usage`: prints what keys used, by day and model, as a table or as JSON."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import reduce
from operator import add
from typing import Any

from tuneyard.api.api_keys import ApiKey, KeyStore
from tuneyard.api.usage_counts import UsageCounts
from tuneyard.api.usage_ledger import UsageLedger, UsageRow, month_begin, usage_location
from tuneyard.cli.since_option import first_day
from tuneyard.configs.serve import ServeConfig
from tuneyard.core.config_loading import load_config
from tuneyard.core.errors import ConfigError

HEADINGS = ("day", "key", "name", "model", "requests", "tokens in", "cached", "tokens out", "reasoning")
NO_MODEL = "(refused)"
"""Shown as the model of requests that were refused before their model was known."""


def print_usage(arguments: argparse.Namespace) -> None:
    """Prints the rows that the arguments select, their sum, and what keys have left of their budgets."""
    store = KeyStore()
    today = datetime.datetime.now(datetime.UTC).date()
    since = first_day(arguments, today) or month_begin(today)
    with _open_ledger(arguments, store) as ledger:
        rows = ledger.rows(since=since, key=arguments.key, model=arguments.model) if ledger is not None else []
        totals = ledger.month_totals(today) if ledger is not None else {}
    keys = [key for key in store.list_keys() if key.has_budget and arguments.key in (None, key.id, key.name)]
    total = reduce(add, (row.counts for row in rows), UsageCounts())
    budgets = [_budget(key, totals.get(key.id, UsageCounts())) for key in keys]
    if arguments.json:
        document = {"since": since.isoformat(), "rows": [_row_document(row) for row in rows]}
        print(json.dumps(document | {"total": asdict(total), "budgets": budgets}, indent=2, ensure_ascii=False))
        return
    if not rows:
        print(f"no usage since {since}")
    else:
        _print_table([_cells(row) for row in rows], ("total", "", "", "", *map(_number, _counts(total))))
    for budget in budgets:
        print(_budget_line(budget))


@contextlib.contextmanager
def _open_ledger(arguments: argparse.Namespace, store: KeyStore) -> Iterator[UsageLedger | None]:
    """The ledger of the deployment; None if it is a file that does not exist yet."""
    database = load_config(ServeConfig, arguments.config).database if arguments.config is not None else None
    if arguments.config is not None and database is None:
        raise ConfigError(
            f"--config {arguments.config}: the config has no section `database`. Leave out --config: the usage is in "
            f"{usage_location(store.path, None).file}."
        )
    location = usage_location(store.path, database)
    if location.file is not None and not location.file.exists():
        yield None
        return
    with contextlib.closing(UsageLedger(location)) as ledger:
        yield ledger


def _counts(counts: UsageCounts) -> tuple[int, ...]:
    """The counts in the order of HEADINGS."""
    return (
        counts.requests,
        counts.prompt_tokens,
        counts.cached_tokens,
        counts.completion_tokens,
        counts.reasoning_tokens,
    )


def _cells(row: UsageRow) -> tuple[str, ...]:
    model = row.model or NO_MODEL
    return (row.day.isoformat(), row.key_id, row.key_name, model, *map(_number, _counts(row.counts)))


def _number(value: int) -> str:
    return f"{value:,}"


def _row_document(row: UsageRow) -> dict[str, Any]:
    place = {"day": row.day.isoformat(), "key_id": row.key_id, "key_name": row.key_name, "model": row.model or None}
    return place | asdict(row.counts)


def _budget(key: ApiKey, used: UsageCounts) -> dict[str, Any]:
    budget: dict[str, Any] = {"key_id": key.id, "key_name": key.name}
    for unit, limit, count in (
        ("requests", key.requests_per_month, used.requests),
        ("tokens", key.tokens_per_month, used.tokens),
    ):
        if limit is not None:
            budget[unit] = {"used": count, "per_month": limit}
    return budget


def _budget_line(budget: dict[str, Any]) -> str:
    parts = [
        f"{budget[unit]['used']:,} of {budget[unit]['per_month']:,} {unit}"
        for unit in ("requests", "tokens")
        if unit in budget
    ]
    return f"budget of {budget['key_id']} ({budget['key_name']}) this month: {', '.join(parts)}"


def _print_table(rows: Sequence[tuple[str, ...]], total: tuple[str, ...]) -> None:
    lines = [HEADINGS, *rows, total]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    texts = HEADINGS.index("requests")
    for line in lines:
        cells = [
            cell.ljust(width) if column < texts else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
