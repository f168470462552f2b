"""Each row has one output item and is counted once, wherever the reconciler's process dies or loses its database."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from serve_apps.platform_app.evals.execution.run_progress import ActiveRun, RowOutcome, RunProgress
from serve_apps.platform_app.evals.tables import EVAL_OUTPUT_ITEMS
from tests.forked_processes import start_process
from tests.serve_apps.platform_app.evals.conftest import write
from tests.serve_apps.platform_app.evals.crash_worker import work
from tests.serve_apps.platform_app.evals.eval_server import EvalServer
from tests.serve_apps.platform_app.evals.test_runs import completions, create_eval, inline
from tuneyard.core.errors import StoreUnavailableError

ROWS = [{"ticket_text": f"ticket {n} about vim", "correct_label": "Software" if n % 3 else "Other"} for n in range(30)]


async def start_run(server: EvalServer) -> tuple[str, str]:
    """A run of ROWS: the ids of its eval and itself."""
    parent = await create_eval(server.client())
    source: Any = completions(source=inline(*ROWS))
    return parent.id, (await server.client().evals.runs.create(parent.id, data_source=source)).id


async def check_run(server: EvalServer, eval_id: str, run_id: str) -> None:
    """Every row has one item, and every count is that of the items."""
    client = server.client()
    run = await client.evals.runs.retrieve(run_id, eval_id=eval_id)
    assert run.status == "completed", run.error
    items = [item async for item in client.evals.runs.output_items.list(run_id, eval_id=eval_id, limit=100)]
    assert [item.datasource_item for item in items] == ROWS
    passed = sum(item.status == "pass" for item in items)
    assert (run.result_counts.total, run.result_counts.passed, run.result_counts.errored) == (30, passed, 0)
    assert passed == 20
    (criterion,) = run.per_testing_criteria_results
    assert (criterion.passed, criterion.failed) == (passed, 30 - passed)
    assert run.per_model_usage[0].invocation_count == 30
    assert run.per_model_usage[0].total_tokens == sum(item.sample.usage.total_tokens for item in items)


class FaultyProgress(RunProgress):
    """Loses the database at the given calls of `record`: before the transaction, or after it was committed."""

    def __init__(self, progress: RunProgress, faults: dict[int, str]) -> None:
        super().__init__(progress._database)
        self._faults = faults
        self._calls = 0

    def record(self, run: ActiveRun, outcome: RowOutcome) -> bool:
        fault = self._faults.get(self._calls)
        self._calls += 1
        if fault == "before":
            raise StoreUnavailableError("The database does not answer.")
        is_wanted = super().record(run, outcome)
        if fault == "after":
            raise StoreUnavailableError("The database does not answer.")
        return is_wanted


@settings(max_examples=8, deadline=None)
@given(
    faults=st.dictionaries(st.integers(0, 40), st.sampled_from(["before", "after"]), max_size=6),
    ends=st.integers(0, 30),
)
def test_a_row_is_counted_once_whatever_fails(tiny_oss: Path, faults: dict[int, str], ends: int) -> None:
    async def check(folder: Path) -> None:
        server = EvalServer(folder, tiny_oss, {"writer": write})
        eval_id, run_id = await start_run(server)
        progress = FaultyProgress(server.part._progress, faults)
        server.part._execution._progress = server.part._progress = progress
        # This process ends at some row, with others under way; the next one goes on.
        await server.work(lambda: progress._calls >= ends or not progress.active())
        await server.close()
        other = EvalServer(folder, tiny_oss, {"writer": write})
        await other.work()
        await check_run(other, eval_id, run_id)
        await other.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(Path(folder)))


async def test_a_row_is_counted_once_whenever_the_process_is_killed(tmp_path: Path, tiny_oss: Path) -> None:
    server = EvalServer(tmp_path, tiny_oss, {"writer": write})
    eval_id, run_id = await start_run(server)
    for kill in range(4):
        worker = start_process(work, tmp_path, tiny_oss)
        if kill < 3:
            await _until_items(server, _count_items(server) + random.randint(1, 5))
            assert worker.is_alive(), "the run ended before its process was killed"
            worker.kill()
        worker.join(120)
        assert worker.exitcode == (-9 if kill < 3 else 0)
    await check_run(server, eval_id, run_id)
    await server.close()


@pytest.mark.parametrize("ends_run", ["cancel", "delete"])
async def test_a_run_that_is_canceled_or_deleted_writes_no_further_item(
    tmp_path: Path, tiny_oss: Path, ends_run: str
) -> None:
    server = EvalServer(tmp_path, tiny_oss, {"writer": write}, token_interval_s=0.02)
    eval_id, run_id = await start_run(server)
    await server.work(lambda: _count_items(server) >= 2)
    client = server.client()
    if ends_run == "cancel":
        canceled = await client.evals.runs.cancel(run_id, eval_id=eval_id)
        count = canceled.result_counts.total
        assert canceled.status == "canceled"
    else:
        await client.evals.runs.delete(run_id, eval_id=eval_id)
        count = 0
    assert count < len(ROWS)
    for _ in range(20):
        await server.part.reconcile(0.0)
        await asyncio.sleep(0.01)
    assert _count_items(server) == count
    assert all(engine.stats().requests == 0 for engine in server.engines.values())
    await server.close()


async def _until_items(server: EvalServer, count: int, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while _count_items(server) < count:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def _count_items(server: EvalServer) -> int:
    with server.database.reading() as connection:
        return connection.execute(select(func.count()).select_from(EVAL_OUTPUT_ITEMS)).scalar_one()
