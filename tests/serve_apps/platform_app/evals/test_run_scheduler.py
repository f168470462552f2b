"""Every key has its turn, and executions end with their runs."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from serve_apps.platform_app.evals.execution.run_progress import ActiveRun
from serve_apps.platform_app.evals.execution.run_scheduler import CONCURRENT_RUNS, RunScheduler, in_turn

RUNS = st.lists(st.sampled_from("abc"), max_size=12).map(
    lambda owners: [ActiveRun(f"evalrun_{number:02}", owner) for number, owner in enumerate(owners)]
)


@given(RUNS, st.integers(0, 12))
def test_no_owner_waits_while_another_has_two_more(active: list[ActiveRun], count: int) -> None:
    running = active[:count]
    order = in_turn(active, running)
    assert sorted(order + running, key=lambda run: run.id) == active
    begun = list(running)
    for run in order:
        waiting = {other.owner for other in order if other not in begun}
        places = {owner: sum(other.owner == owner for other in begun) for owner in waiting}
        assert places[run.owner] == min(places.values())
        begun.append(run)
    for owner in "abc":
        own = [run.id for run in order if run.owner == owner]
        assert own == sorted(own)


async def test_executions_begin_in_turn_end_with_their_runs_and_begin_again_after_an_error() -> None:
    begun: list[str] = []
    ended: list[str] = []
    fails = {"1"}

    async def execute(run: ActiveRun) -> None:
        begun.append(run.id)
        try:
            if run.id in fails:
                fails.clear()
                raise OSError("the database is gone")
            await asyncio.Event().wait()
        finally:
            ended.append(run.id)

    scheduler = RunScheduler(execute)
    runs = [ActiveRun(str(number), "a") for number in range(CONCURRENT_RUNS + 2)]
    await scheduler.step(runs)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (begun, ended) == (["0", "1", "2", "3"], ["1"])
    await scheduler.step(runs[1:])
    await asyncio.sleep(0)
    assert (begun[4:], ended) == (["1", "4"], ["1", "0"])
    await scheduler.close()
    assert sorted(ended) == ["0", "1", "1", "2", "3", "4"]
