"""Usage is added up by day, key and model, once, in either kind of database."""

from __future__ import annotations

import contextlib
import datetime
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.api.usage_counts import UsageCounts
from tuneyard.api.usage_ledger import UsageLedger, UsageRow, month_begin, next_month, usage_location
from tuneyard.storage.sql.location import SqlLocation

MAY_1, MAY_31, JUNE_1 = (datetime.date(2026, 5, 1), datetime.date(2026, 5, 31), datetime.date(2026, 6, 1))


@pytest.fixture
def ledger(sql_location: SqlLocation) -> Iterator[UsageLedger]:
    with contextlib.closing(UsageLedger(sql_location)) as ledger:
        yield ledger


def row(day: datetime.date, key: str, model: str, *counts: int) -> UsageRow:
    return UsageRow(day, key, f"name of {key}", model, UsageCounts(*counts))


def test_counts_are_added_up_and_selected(ledger: UsageLedger) -> None:
    ledger.add(
        "1", [row(MAY_1, "a", "small", 1, 10, 4, 5, 2), row(MAY_31, "a", "large", 1, 1), row(JUNE_1, "b", "", 1)]
    )
    ledger.add("2", [row(MAY_1, "a", "small", 2, 20, 0, 7, 3)])
    first = row(MAY_1, "a", "small", 3, 30, 4, 12, 5)
    assert ledger.rows() == [first, row(MAY_31, "a", "large", 1, 1), row(JUNE_1, "b", "", 1)]
    assert ledger.rows(since=MAY_31, key="a") == [row(MAY_31, "a", "large", 1, 1)]
    assert ledger.rows(key="name of a", model="small") == [first]
    assert ledger.month_totals(MAY_31) == {"a": UsageCounts(4, 31, 4, 12, 5)}
    assert ledger.month_totals(JUNE_1) == {"b": UsageCounts(1)}


def test_a_batch_counts_once(ledger: UsageLedger) -> None:
    for batch in ("1", "1", "2", "1"):
        ledger.add(batch, [row(MAY_1, "a", "m", 1)])
    assert [found.counts.requests for found in ledger.rows()] == [2]


def test_several_replicas_add_at_once(sql_location: SqlLocation) -> None:
    def add(replica: int) -> None:
        with contextlib.closing(UsageLedger(sql_location)) as ledger:
            for number in range(10):
                ledger.add(f"{replica}-{number}", [row(MAY_1, "a", "m", 1, number), row(MAY_1, "b", "m", 1)])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add, range(4)))
    with contextlib.closing(UsageLedger(sql_location)) as ledger:
        assert ledger.month_totals(MAY_1) == {"a": UsageCounts(40, 180), "b": UsageCounts(40)}


def test_the_file_beside_the_keys_is_its_owners(tmp_path: Path) -> None:
    location = usage_location(tmp_path / "api_keys.json", None)
    with contextlib.closing(UsageLedger(location)) as ledger:
        ledger.add("1", [row(MAY_1, "a", "m", 1)])
    assert location.file == tmp_path / "usage.db"
    assert stat.S_IMODE(location.file.stat().st_mode) == 0o600


@given(st.dates(max_value=datetime.date(9999, 11, 30)))
def test_months_join_without_a_gap(day: datetime.date) -> None:
    begin, end = month_begin(day), next_month(day)
    assert begin <= day < end
    assert (begin.day, end.day, month_begin(end - datetime.timedelta(1))) == (1, 1, begin)
