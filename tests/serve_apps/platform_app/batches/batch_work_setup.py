"""The work on batches without Ray: real store and files in a folder, and a model that answers by a plan."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import MetaData

from serve_apps.api.model_calls import CallAnswer
from serve_apps.platform_app.batches.batch_store import BatchStore
from serve_apps.platform_app.batches.execution.batch_run import BatchServices
from serve_apps.platform_app.batches.execution.batch_work import BatchWork
from serve_apps.platform_app.batches.execution.model_lane import ModelLane
from serve_apps.platform_app.files.content_store import ContentStore
from serve_apps.platform_app.files.file_service import FileService
from serve_apps.platform_app.files.records import FileRecords
from serve_apps.platform_app.store.idempotency import IdempotentRequest
from serve_apps.platform_app.store.platform_database import migrate
from tuneyard.api.wire.errors import error_body
from tuneyard.api.wire.platform_api.batches import CreateBatchRequest
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.configs.platform_api.batch_limits import BatchLimits
from tuneyard.core.errors import ModelNotFoundError, OverloadedError, RequestError
from tuneyard.storage.sql.database import SqlDatabase
from tuneyard.storage.sql.location import SqlLocation

CHAT = "/v1/chat/completions"
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 1}}

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class KilledError(Exception):
    """Ends everything in a process that is dead: none of its work has an effect any more."""


class Power:
    """Of one process: it dies with its step number `lasts_for` at the store, before or after the step's effect."""

    def __init__(self, lasts_for: int | None = None, *, dies_after_effect: bool = False) -> None:
        self._left = lasts_for
        self._dies_after_effect = dies_after_effect
        self.is_dead = False

    def step(self) -> bool:
        """Whether the step still has an effect, with which the process may die. Raises KilledError in a dead one."""
        if self.is_dead:
            raise KilledError
        if self._left is not None:
            self._left -= 1
            self.is_dead = self._left <= 0
        return not self.is_dead or self._dies_after_effect


class DyingDatabase(SqlDatabase):
    """A process' connection to the store."""

    power = Power()

    async def run(self, call: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if not self.power.step():
            raise KilledError
        result = await super().run(call, *args, **kwargs)
        if self.power.is_dead:
            raise KilledError
        return result


def open_store(folder: Path, location: SqlLocation | None = None) -> DyingDatabase:
    location = location or SqlLocation(file=folder / "platform.db")
    return DyingDatabase(location, MetaData(), what="Records", migrate=migrate)


class PlannedModel:
    """Answers a request by its content: `ok`, `refuse` (400), `busy` (503 at first), `broken` (500 at first)."""

    def __init__(self, power: Power, delay_s: float = 0.0) -> None:
        self.power = power
        self.answered: Counter[str] = Counter()
        self.is_missing = False
        self._seen: Counter[str] = Counter()
        self._delay_s = delay_s

    async def find(self, owner: str, name: str) -> None:  # noqa: ARG002  # see OwnerCalls
        """See OwnerCalls."""
        if name != "tiny":
            raise ModelNotFoundError(f"The model {name!r} does not exist here.", code="model_not_found")

    async def complete(
        self, owner: str, path: str, body: dict[str, Any], *, request_id: str = "", is_background: bool = False
    ) -> CallAnswer:
        """See OwnerCalls."""
        assert (path, is_background) == (CHAT, True)
        assert request_id
        await asyncio.sleep(self._delay_s * random.random())
        if self.power.is_dead:
            raise KilledError
        plan, _, name = body["messages"][0]["content"].partition(" ")
        self._seen[name] += 1
        if self.is_missing:
            return failed(ModelNotFoundError("It does not exist.", code="model_not_found"))
        if plan == "busy" and self._seen[name] == 1:
            return failed(OverloadedError("Busy.", code="overloaded"))
        if plan == "broken" and self._seen[name] < 3:
            return CallAnswer(500, {"error": {"code": None}})
        if plan == "dead":
            return CallAnswer(500, {"error": {"code": None}})
        if plan == "refuse":
            return failed(RequestError("No.", param="messages"))
        self.answered[name] += 1
        return CallAnswer(200, {"id": name, "owner": owner, "usage": USAGE})


def failed(error: RequestError) -> CallAnswer:
    return CallAnswer(error.status_code, error_body(error))


class Process:
    """One process of the platform, which has its own power."""

    def __init__(
        self,
        folder: Path,
        power: Power,
        now: Callable[[], float],
        *,
        delay_s: float = 0.0,
        location: SqlLocation | None = None,
    ) -> None:
        self.power = power
        self.database = open_store(folder, location)
        self.database.power = power
        self.model = PlannedModel(power, delay_s)
        location = str(folder / "files")
        self.files = FileService(FileRecords(self.database, 2.0**40, now), ContentStore(location), now)
        self.store = BatchStore(self.database, now)
        lanes: dict[str, ModelLane] = {}
        self.services = BatchServices(
            store=self.store,
            files=self.files,
            calls=self.model,
            location=location,
            limits=BatchLimits(),
            http_limits=HttpLimits(),
            lane_of=lambda name: lanes.setdefault(name, ModelLane(8)),
        )
        self.work = BatchWork(self.services)

    async def close(self) -> None:
        """Ends what runs, as a dead process does."""
        await self.work.close()
        self.database.close()


def row(name: str, plan: str = "ok") -> dict[str, Any]:
    messages = [{"role": "user", "content": f"{plan} {name}"}]
    return {"custom_id": name, "method": "POST", "url": CHAT, "body": {"model": "tiny", "messages": messages}}


async def upload(process: Process, owner: str, rows: Sequence[Any]) -> str:
    """The id of an input file with these rows."""

    async def blocks() -> AsyncIterator[bytes]:
        for item in rows:
            yield json.dumps(item).encode() + b"\n"

    return (await process.files.create(owner, "batch", "in.jsonl", blocks())).id


async def create(process: Process, owner: str, rows: Sequence[Any]) -> str:
    """The id of a batch of these rows."""
    file_id = await upload(process, owner, rows)
    body = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
    sent = IdempotentRequest(owner, "batches", "", body)
    batch = await process.database.run(process.store.create, sent, CreateBatchRequest.parse(body), 100)
    return batch.id


async def read_lines(process: Process, owner: str, file_id: str | None) -> list[dict[str, Any]]:
    """The lines of a file; none if there is no file."""
    if file_id is None:
        return []
    record = await process.files.find(owner, file_id)
    content = b"".join([block async for block in process.files.blocks(record)])
    assert len(content) == record.bytes
    return [json.loads(line) for line in content.splitlines()]


async def work_until_done(process: Process, now: Callable[[], float], limit_s: float = 20.0) -> None:
    """Works until nothing is left to do, or the process is dead."""
    async with asyncio.timeout(limit_s):
        while not process.power.is_dead:
            try:
                await process.work.step(now())
                if not await process.database.run(process.store.unfinished):
                    return
            except KilledError:
                return
            await asyncio.sleep(0.001)
