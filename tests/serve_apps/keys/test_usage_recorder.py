"""Usage is written in batches: nothing is lost or counted twice, and budgets see other replicas."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from serve_apps.keys.metrics import KeyMetrics
from serve_apps.keys.usage_recorder import UsageRecorder
from tuneyard.api.api_keys import ApiKey
from tuneyard.api.usage_counts import UsageCounts
from tuneyard.api.usage_ledger import UsageLedger, UsageRow
from tuneyard.core.errors import StoreUnavailableError
from tuneyard.storage.sql.location import SqlLocation

ROOT = Path(__file__).resolve().parents[3]


class Clock:
    """A clock in UTC that the test sets."""

    def __init__(self) -> None:
        self.now = datetime.datetime(2026, 5, 31, 12, tzinfo=datetime.UTC)

    def __call__(self) -> datetime.datetime:
        return self.now


class UnreliableLedger(UsageLedger):
    """Fails before or after it has added a batch, or when it is read, as often as the test says."""

    failures: Sequence[str] = ()

    def add(self, batch_id: str, rows: Sequence[UsageRow]) -> None:
        failure, self.failures = (self.failures[0], self.failures[1:]) if self.failures else ("", ())
        if failure == "before":
            raise StoreUnavailableError("The disk is full.")
        super().add(batch_id, rows)
        if failure == "after":
            raise StoreUnavailableError("The answer was lost.")

    def month_totals(self, day: datetime.date) -> dict[str, UsageCounts]:
        if self.failures and self.failures[0] == "reading":
            self.failures = self.failures[1:]
            raise StoreUnavailableError("The server is gone.")
        return super().month_totals(day)


def key(name: str) -> ApiKey:
    return ApiKey(id=name, name=f"{name}!", sha256=name, created_at=datetime.datetime.now(datetime.UTC))


def total(ledger: UsageLedger, key_id: str) -> UsageCounts:
    return sum((row.counts for row in ledger.rows(key=key_id)), UsageCounts())


async def test_replicas_write_to_one_ledger_and_see_each_other(sql_location: SqlLocation) -> None:
    clock, metrics = Clock(), KeyMetrics()
    first, second = (UsageRecorder(UsageLedger(sql_location), 0.05, metrics, clock) for _ in range(2))
    async with first.running():
        async with second.running():
            first.add(key("a"), "m", UsageCounts(1, 10))
            second.add(key("a"), "m", UsageCounts(1, 0, 0, 5))
            assert second.of_month(key("a")) == UsageCounts(1, 0, 0, 5)
            for _ in range(600):
                if first.of_month(key("a")) == second.of_month(key("a")) == UsageCounts(2, 10, 0, 5):
                    break
                await asyncio.sleep(0.05)
            assert first.of_month(key("a")) == UsageCounts(2, 10, 0, 5)
            # Not written by the interval, but at the end.
            second.add(key("a"), "m", UsageCounts(1))
        clock.now += datetime.timedelta(days=1)
        assert first.of_month(key("a")) == UsageCounts(), "a new month"
        first.add(key("a"), "m", UsageCounts(1))
        assert first.of_month(key("a")) == UsageCounts(1)
    with contextlib.closing(UsageLedger(sql_location)) as ledger:
        assert [(row.day.month, row.counts.requests) for row in ledger.rows()] == [(5, 3), (6, 1)]


counts = st.builds(UsageCounts, *(st.integers(0, 1000) for _ in range(5)))
steps = st.lists(st.tuples(st.sampled_from("ab"), counts) | st.just("write"), max_size=15)
failures = st.lists(st.sampled_from(["", "before", "after", "reading"]), max_size=6)


@given(steps, failures)
async def test_whatever_fails_each_count_is_kept_once(
    steps: list[tuple[str, UsageCounts] | str], failures: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = UnreliableLedger(SqlLocation(file=Path(folder) / "usage.db"))
        ledger.failures = failures
        recorder = UsageRecorder(ledger, 3600, KeyMetrics(), Clock())
        added = {"a": UsageCounts(), "b": UsageCounts()}
        for step in steps:
            if isinstance(step, str):
                await recorder.write()
            else:
                name, used = step
                recorder.add(key(name), "m", used)
                added[name] += used
            assert {name: recorder.of_month(key(name)) for name in added} == added
        ledger.failures = ()
        for _ in range(2):  # what is being written, then what came meanwhile
            await recorder.write()
        assert {name: total(ledger, name) for name in added} == added
        ledger.close()


CHILD = """
import asyncio, datetime, sys
from pathlib import Path
from serve_apps.keys.metrics import KeyMetrics
from serve_apps.keys.usage_recorder import UsageRecorder
from tuneyard.api.api_keys import ApiKey
from tuneyard.api.usage_counts import UsageCounts
from tuneyard.api.usage_ledger import UsageLedger
from tuneyard.storage.sql.location import SqlLocation

async def main():
    key = ApiKey(id="a", name="a", sha256="a", created_at=datetime.datetime.now(datetime.UTC))
    recorder = UsageRecorder(UsageLedger(SqlLocation(file=Path(sys.argv[1]))), 3600, KeyMetrics())
    async with recorder.running():
        for number in range(1, 1000):
            recorder.add(key, "m", UsageCounts(1))
            await recorder.write()
            print(number, flush=True)
            recorder.add(key, "m", UsageCounts(0, 1))
            await asyncio.sleep(0.001)

asyncio.run(main())
"""


def test_a_replica_that_is_killed_loses_only_what_came_after_its_last_write(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    environment = {"PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}"}
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) == 20:
                break
        child.send_signal(signal.SIGKILL)
        written = 20 + len(child.stdout.read().splitlines())
    with contextlib.closing(UsageLedger(SqlLocation(file=path))) as ledger:
        # It may have been killed between a write and its report.
        assert total(ledger, "a").requests in (written, written + 1)


async def test_the_failures_are_counted(tmp_path: Path) -> None:
    metrics = KeyMetrics("r1")
    ledger = UnreliableLedger(SqlLocation(file=tmp_path / "usage.db"))
    ledger.failures = ("before", "before")
    recorder = UsageRecorder(ledger, 3600, metrics)
    recorder.add(key("a"), "m", UsageCounts(1))
    for _ in range(3):
        await recorder.write()
    samples = {s.name: (s.value, s.labels) for family in metrics.collect() for s in family.samples}
    assert samples["tuneyard_key_usage_failures_total"] == (2, {"replica": "r1"})
    assert total(ledger, "a") == UsageCounts(1)
    ledger.close()
