"""The rows of batches, on each kind of database: every change happens once, whichever process makes it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_apps.platform_app.batches.batch_store import BatchStore, PartConflictError, PartCounts, ResultPart
from serve_apps.platform_app.batches.execution import result_writer, row_answers
from serve_apps.platform_app.batches.states import Event
from serve_apps.platform_app.store.idempotency import IdempotentRequest
from tests.serve_apps.platform_app.batches.batch_work_setup import (
    CHAT,
    Power,
    Process,
    create,
    read_lines,
    row,
    upload,
    work_until_done,
)
from tuneyard.api.wire.platform_api.batches import BatchError, BatchQuery, CreateBatchRequest
from tuneyard.core.errors import ObjectNotFoundError, RateLimitError, RequestError
from tuneyard.storage.sql.location import SqlLocation


@pytest.fixture
def process(tmp_path: Path, sql_location: SqlLocation) -> Iterator[Process]:
    process = Process(tmp_path, Power(), time.time, location=sql_location)
    yield process
    process.database.close()


def part(number: int, lines: str = "1") -> ResultPart:
    return ResultPart(number, f"part-{number}", lines, 1, 0)


async def test_a_part_counts_once(process: Process) -> None:
    batch_id = await create(process, "me", [row("a")])
    store: BatchStore = process.store
    counts = PartCounts(completed=1, input_tokens=3, output_tokens=2)

    async def add() -> bool:
        try:
            await process.database.run(store.add_part, batch_id, part(1), counts)
        except PartConflictError:
            return False
        return True

    results = await asyncio.gather(*(add() for _ in range(4)))
    assert results.count(True) == 1
    batch = store.find("me", batch_id).as_object()
    assert (batch.request_counts.completed, batch.usage.total_tokens) == (1, 5)
    assert [found.number for found in store.parts(batch_id)] == [1]
    store.add_part(batch_id, part(2), counts)
    store.reject(batch_id, [BatchError(code="empty_file", message="Empty.")])
    with pytest.raises(PartConflictError):  # the batch has ended
        store.add_part(batch_id, part(3), counts)
    assert store.find("me", batch_id).as_object().request_counts.completed == 2


async def test_events_change_what_they_can_and_nothing_else(process: Process) -> None:
    batch_id = await create(process, "me", [row("a")])
    store = process.store
    assert store.record(batch_id, Event.FINISH).status == "validating"
    assert store.record(batch_id, Event.ACCEPT, model="tiny", total=1).model == "tiny"
    assert store.cancel("me", batch_id).status == "cancelling"
    late = store.record(batch_id, Event.ACCEPT, model="other", total=7)
    assert (late.status, late.model, late.total) == ("cancelling", "tiny", 1)
    assert store.cancel("me", batch_id).status == "cancelling"  # a client may repeat it
    reserved = store.find("me", batch_id)
    assert reserved.output_file_id is not None
    assert reserved.as_object().output_file_id is None
    done = store.finish(batch_id)
    assert (done.status, done.output_file_id, done.error_file_id) == ("cancelled", None, None)
    assert [record.id for record in store.unfinished()] == [batch_id]
    store.forget_parts(batch_id)
    assert store.unfinished() == []


async def test_an_owner_sees_its_own_and_has_so_many(process: Process) -> None:
    file_id = await upload(process, "me", [row("a")])
    body = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
    request = CreateBatchRequest.parse(body)
    store = process.store

    def add(owner: str = "me", key: str = "") -> str:
        return store.create(IdempotentRequest(owner, "batches", key, body), request, 3).id

    ids = [add(key="one"), add(), add()]
    assert add(key="one") == ids[0]
    with pytest.raises(RateLimitError, match="has 3 batches that have not ended; its limit is 3"):
        add()
    with pytest.raises(ObjectNotFoundError):
        add("somebody else")
    page, has_more = store.read_page("me", BatchQuery(limit=2))
    assert ([record.id for record in page], has_more) == ([ids[2], ids[1]], True)
    assert store.read_page("somebody else", BatchQuery()) == ([], False)
    for call in (store.find, store.cancel):
        with pytest.raises(ObjectNotFoundError):
            call("somebody else", ids[0])
        with pytest.raises(ObjectNotFoundError):
            call("me", "batch_\0'; DROP TABLE batches")
    with pytest.raises(RequestError, match="is used by batch_"):
        await process.files.delete("me", file_id)


async def test_a_whole_batch(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_writer, "INTERVAL_S", 0.01)
    monkeypatch.setattr(row_answers, "BUSY_WAIT_S", 0.001)
    names = [f"é\u2028{number}" for number in range(40)]
    batch_id = await create(process, "me", [row(name, "busy" if name[-1] == "3" else "ok") for name in names])
    await work_until_done(process, time.time)
    batch = process.store.find("me", batch_id).as_object()
    assert batch.status == "completed"
    assert sorted(line["custom_id"] for line in await read_lines(process, "me", batch.output_file_id)) == sorted(names)
