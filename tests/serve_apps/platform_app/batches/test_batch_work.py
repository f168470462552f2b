"""Each request of a batch has one result, whatever the model answers and whenever a process dies."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from serve_apps.platform_app.batches.batch_store import WINDOW_S
from serve_apps.platform_app.batches.execution import batch_work, result_writer, row_answers
from serve_apps.platform_app.batches.states import ENDED
from serve_apps.platform_app.batches.tables import BATCH_PARTS
from serve_apps.platform_app.files.tables import FILE_USES, FILES
from tests.serve_apps.platform_app.batches.batch_work_setup import (
    Power,
    Process,
    create,
    read_lines,
    row,
    work_until_done,
)
from tuneyard.api.wire.platform_api.batches import Batch
from tuneyard.core.errors import ObjectNotFoundError, RequestError

PLANS = ("ok", "ok", "ok", "refuse", "busy", "broken", "dead")


class Clock:
    """Time that a test sets."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_writer, "INTERVAL_S", 0.002)
    monkeypatch.setattr(row_answers, "BUSY_WAIT_S", 0.001)
    monkeypatch.setattr(row_answers, "MAX_BUSY_WAIT_S", 0.01)
    monkeypatch.setattr(row_answers, "FAILURE_WAIT_S", 0.001)
    monkeypatch.setattr(batch_work, "FIRST_DELAY_S", 0.0)


@pytest.fixture
def process(tmp_path: Path, clock: Clock) -> Process:
    return Process(tmp_path, Power(), clock)


async def batch_of(process: Process, owner: str, batch_id: str) -> Batch:
    return (await process.database.run(process.store.find, owner, batch_id)).as_object()


async def test_results_are_in_the_files_that_openai_has(process: Process, clock: Clock) -> None:
    rows = [row("a"), row("b", "refuse"), row("c", "busy"), row("d", "broken"), row("e", "dead")]
    batch_id = await create(process, "me", rows)
    assert (await batch_of(process, "me", batch_id)).status == "validating"
    await work_until_done(process, clock)
    batch = await batch_of(process, "me", batch_id)
    assert (batch.status, batch.model, batch.errors) == ("completed", "tiny", None)
    assert batch.request_counts.model_dump() == {"total": 5, "completed": 3, "failed": 2}
    assert batch.usage.model_dump() == {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 6,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 15,
    }
    outputs = {line["custom_id"]: line for line in await read_lines(process, "me", batch.output_file_id)}
    errors = {line["custom_id"]: line for line in await read_lines(process, "me", batch.error_file_id)}
    assert (sorted(outputs), sorted(errors)) == (["a", "c", "d"], ["b", "e"])
    assert list(outputs["a"]) == ["id", "custom_id", "response", "error"]
    assert outputs["a"]["error"] is None
    assert outputs["a"]["response"]["body"]["owner"] == "me"
    assert errors["b"]["response"]["status_code"] == 400
    assert errors["b"]["response"]["body"]["error"]["param"] == "messages"
    assert errors["e"]["response"]["status_code"] == 500
    assert (batch.completed_at, batch.finalizing_at) == (int(clock.time), int(clock.time))
    await process.close()


async def test_a_wrong_file_fails_the_batch_with_its_lines(process: Process, clock: Clock) -> None:
    wrong = row("b") | {"method": "GET"}
    batch_id = await create(process, "me", [row("a"), wrong, row("a")])
    unknown = [row("a") | {"body": {"model": "other"}}]
    other_id = await create(process, "me", unknown)
    await work_until_done(process, clock)
    batch, other = await batch_of(process, "me", batch_id), await batch_of(process, "me", other_id)
    assert batch.errors is not None
    assert other.errors is not None
    assert (batch.status, other.status) == ("failed", "failed")
    assert [(e.code, e.line) for e in batch.errors.data] == [("invalid_method", 2), ("duplicate_custom_id", 3)]
    assert [(e.code, e.line, e.param) for e in other.errors.data] == [("model_not_found", 1, "body.model")]
    assert (batch.output_file_id, batch.error_file_id, batch.failed_at) == (None, None, int(clock.time))
    await process.files.delete("me", batch.input_file_id)  # nothing uses it any more
    await process.close()


async def test_a_batch_that_expires_gives_each_missing_request_openais_error(process: Process, clock: Clock) -> None:
    batch_id = await create(process, "me", [row("a"), row("b", "busy"), row("c")])
    process.model.is_missing = True  # nothing is answered
    await process.work.step(clock())
    while (await batch_of(process, "me", batch_id)).status != "in_progress":
        await asyncio.sleep(0.001)
        await process.work.step(clock())
    clock.time += WINDOW_S
    await work_until_done(process, clock)
    batch = await batch_of(process, "me", batch_id)
    assert (batch.status, batch.output_file_id, batch.expired_at) == ("expired", None, int(clock.time))
    lines = await read_lines(process, "me", batch.error_file_id)
    assert sorted(line["custom_id"] for line in lines) == ["a", "b", "c"]
    assert {line["error"]["code"] for line in lines} == {"batch_expired"}
    assert {line["response"] for line in lines} == {None}
    await process.close()


async def test_a_batch_in_work_keeps_its_file_and_ends_when_it_is_cancelled(process: Process, clock: Clock) -> None:
    batch_id = await create(process, "me", [row("a"), row("b")])
    process.model.is_missing = True
    for _ in range(20):
        await process.work.step(clock())
        await asyncio.sleep(0.002)
    batch = await batch_of(process, "me", batch_id)
    assert batch.status == "in_progress"
    with pytest.raises(RequestError, match="is used by batch_"):
        await process.files.delete("me", batch.input_file_id)
    with pytest.raises(ObjectNotFoundError):
        await process.database.run(process.store.cancel, "somebody else", batch_id)
    cancelled = await process.database.run(process.store.cancel, "me", batch_id)
    assert cancelled.status == "cancelling"
    await work_until_done(process, clock)
    batch = await batch_of(process, "me", batch_id)
    assert batch.status == "cancelled"
    assert {line["error"]["code"] for line in await read_lines(process, "me", batch.error_file_id)} == {
        "batch_cancelled"
    }
    with pytest.raises(RequestError, match="Cannot cancel a batch with status 'cancelled'"):
        await process.database.run(process.store.cancel, "me", batch_id)
    await process.close()


async def test_two_processes_that_work_at_once_double_nothing(tmp_path: Path, clock: Clock) -> None:
    """The lease forbids it; a process that was stopped for longer than its lease does it all the same."""
    processes = [Process(tmp_path, Power(), clock, delay_s=0.004) for _ in range(2)]
    batch_id = await create(processes[0], "me", [row(str(number)) for number in range(60)])
    await asyncio.gather(*(work_until_done(process, clock) for process in processes))
    batch = await batch_of(processes[0], "me", batch_id)
    names = [line["custom_id"] for line in await read_lines(processes[0], "me", batch.output_file_id)]
    assert sorted(names, key=int) == [str(number) for number in range(60)]
    assert batch.request_counts.completed == 60
    for process in processes:
        await process.close()


@pytest.fixture(scope="module")
def shared_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


_owners = itertools.count()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plans=st.lists(st.sampled_from(PLANS), min_size=1, max_size=12),
    deaths=st.lists(st.tuples(st.integers(1, 14), st.booleans()), max_size=5),
    end=st.sampled_from(["none", "none", "cancel", "expire"]),
    end_round=st.integers(0, 4),
)
async def test_every_request_has_one_result_whenever_processes_die(
    shared_folder: Path, plans: list[str], deaths: list[tuple[int, bool]], end: str, end_round: int
) -> None:
    clock, owner = Clock(), f"owner-{next(_owners)}"
    first = Process(shared_folder, Power(), clock)
    rows = [row(str(number), plan) for number, plan in enumerate(plans)]
    batch_id = await create(first, owner, rows)
    seen: list[str] = []
    for number, death in enumerate([*deaths, None]):
        process = Process(shared_folder, Power(death[0], dies_after_effect=death[1]) if death else Power(), clock)
        if number == min(end_round, len(deaths)):
            if end == "expire":
                clock.time += WINDOW_S
            elif end == "cancel" and (await batch_of(first, owner, batch_id)).status not in ENDED:
                await first.database.run(first.store.cancel, owner, batch_id)
        await work_until_done(process, clock)
        await process.close()
        seen.append((await batch_of(first, owner, batch_id)).status)
    await check(first, owner, batch_id, plans, seen, end)
    await first.close()


async def check(process: Process, owner: str, batch_id: str, plans: list[str], seen: list[str], end: str) -> None:
    batch = await batch_of(process, owner, batch_id)
    assert (
        batch.status
        in {"none": ("completed",), "cancel": ("completed", "cancelled"), "expire": ("completed", "expired")}[end]
    )
    ended = [status for status in seen if status in ENDED]
    assert set(ended) == {batch.status}, "a batch that has ended stays as it was told"
    outputs = await read_lines(process, owner, batch.output_file_id)
    errors = await read_lines(process, owner, batch.error_file_id)
    names = sorted(int(line["custom_id"]) for line in (*outputs, *errors))
    if batch.request_counts.total or batch.status != "cancelled":
        assert names == list(range(len(plans)))
    assert len({line["id"] for line in (*outputs, *errors)}) == len(names)
    counts = batch.request_counts
    assert (counts.completed, counts.failed, counts.total) == (len(outputs), len(errors), len(names))
    assert batch.usage.total_tokens == 5 * len(outputs)
    if batch.status == "completed":
        wrong = {str(number) for number, plan in enumerate(plans) if plan in ("refuse", "dead")}
        assert {line["custom_id"] for line in errors} == wrong
    with process.database.reading() as connection:
        files = set(connection.execute(select(FILES.c.id).where(FILES.c.owner == owner)).scalars())
        used = connection.execute(select(FILE_USES).where(FILE_USES.c.used_by == batch_id)).all()
        parts = connection.execute(select(BATCH_PARTS).where(BATCH_PARTS.c.batch_id == batch_id)).all()
    assert files == {batch.input_file_id, batch.output_file_id, batch.error_file_id} - {None}
    assert used == parts == []
    assert not (Path(process.services.location) / "batches" / batch_id).exists()
