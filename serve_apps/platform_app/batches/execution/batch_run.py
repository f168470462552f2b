"""BatchRun: one batch, from its validation to its files. Each step can be repeated, and interrupted anywhere."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from serve_apps.platform_app.batches.batch_record import BatchRecord
from serve_apps.platform_app.batches.batch_store import BatchStore, ResultPart
from serve_apps.platform_app.batches.execution.model_lane import ModelLane
from serve_apps.platform_app.batches.execution.result_folder import Kind, ResultFolder
from serve_apps.platform_app.batches.execution.result_lines import unanswered
from serve_apps.platform_app.batches.execution.result_writer import ResultWriter
from serve_apps.platform_app.batches.execution.row_answers import Calls, RowAnswers
from serve_apps.platform_app.batches.input.input_lines import InputLine, read_lines
from serve_apps.platform_app.batches.input.input_rows import InputRow, max_line_bytes, parse_row
from serve_apps.platform_app.batches.input.validation import InputValidator
from serve_apps.platform_app.batches.states import ENDED, Event
from serve_apps.platform_app.files.file_service import FileService
from tuneyard.api.wire.platform_api.batches import BatchError
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.configs.platform_api.batch_limits import BatchLimits
from tuneyard.core.errors import AuthenticationError, ModelNotFoundError, ObjectNotFoundError, StorageError

EXPIRED = ("batch_expired", "This request could not be executed before the completion window expired.")
"""OpenAI's words."""

NO_LIMITS = HttpLimits(body_bytes=sys.maxsize, json_values=sys.maxsize, json_containers=sys.maxsize)
"""For lines that were valid when the batch began, under limits that may have been larger. RowAnswers applies the
current ones to each request."""

GIVE_UP_S = 3600.0
"""Seconds after a batch's window for which its input file may be unreadable before the batch ends without it."""

CANCELLED = ("batch_cancelled", "This request was not executed, because the batch was cancelled.")

logger = logging.getLogger(__name__)


class ModelCalls(Calls, Protocol):
    """See OwnerCalls."""

    async def find(self, owner: str, name: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class BatchServices:
    """What the work on batches needs."""

    store: BatchStore
    files: FileService
    calls: ModelCalls
    location: str
    """The location of the platform's files, where results are kept until a batch ends."""
    limits: BatchLimits
    http_limits: HttpLimits
    lane_of: Callable[[str], ModelLane]
    """The lane of a model, by its name."""


class BatchRun:
    """The work on one batch."""

    def __init__(self, services: BatchServices, batch: BatchRecord) -> None:
        self._services = services
        self._store = services.store
        self._batch = batch
        self._folder = ResultFolder(services.location, batch.id)

    async def work(self) -> None:
        """Works until the batch has ended and nothing is left of it but its files.

        Raises what storage and store raise; then call it again later.
        """
        while True:
            before = self._batch.status
            match before:
                case "validating":
                    await self._validate()
                case "in_progress":
                    await self._answer()
                case "finalizing" | "cancelling":
                    await self._finalize()
                case _:
                    await self._clean()
                    return
            if self._batch.status == before:
                return  # for example, cancelled meanwhile by another process: its next call sees that

    async def _validate(self) -> None:
        batch, services = self._batch, self._services
        validator = InputValidator(batch.endpoint, services.http_limits, services.limits.max_requests)
        try:
            async for lines in self._lines(services.http_limits):
                await asyncio.to_thread(validator.feed, lines)
                if validator.is_over:
                    break
        except ObjectNotFoundError as e:
            await self._reject([BatchError(code="input_file_missing", message=e.message, param="input_file_id")])
            return
        errors = validator.finish() or await self._check_model(validator)
        if errors:
            await self._reject(errors)
        else:
            values = {"model": validator.model, "total": validator.total}
            self._batch = await self._store.database.run(self._store.record, batch.id, Event.ACCEPT, **values)

    async def _check_model(self, validator: InputValidator) -> list[BatchError]:
        """Why the owner cannot use the model. Raises RegistryDownError if that is not known now."""
        assert validator.model is not None
        line = validator.first_line
        try:
            await self._services.calls.find(self._batch.owner, validator.model)
        except ModelNotFoundError as e:
            return [BatchError(code="model_not_found", line=line, message=e.message, param="body.model")]
        except AuthenticationError as e:
            return [BatchError(code="invalid_api_key", message=e.message)]
        return []

    async def _reject(self, errors: list[BatchError]) -> None:
        self._batch = await self._store.database.run(self._store.reject, self._batch.id, errors)

    async def _answer(self) -> None:
        """Answers each request that has no result."""
        batch, services = self._batch, self._services
        assert batch.model is not None
        lane = services.lane_of(batch.model)
        answers = RowAnswers(services.calls, services.http_limits)
        writer = await self._open_writer()

        async def answer(row: InputRow) -> None:
            await writer.add(await answers.answer(batch, row, lane))

        async with writer.storing(), asyncio.TaskGroup() as rows:
            async for row in self._missing_rows(writer):
                await lane.take(batch.owner, row.bytes)
                # A callback, because a task that is cancelled before it begins runs nothing of its own.
                rows.create_task(answer(row)).add_done_callback(lambda _, size=row.bytes: lane.give_back(size))  # type: ignore[misc]
        self._batch = await self._store.database.run(self._store.record, batch.id, Event.RESOLVE)

    async def _finalize(self) -> None:
        """Gives requests without a result an error, and writes the files."""
        writer = await self._open_writer()
        if len(writer.done) < self._batch.total:
            try:
                await self._give_up_missing(writer)
            except (StorageError, ObjectNotFoundError) as e:
                if self._store.now() < self._batch.expires_at + GIVE_UP_S:
                    raise
                logger.error("%s ends without results for some requests: its input file is gone: %s", self._batch.id, e)
        parts = await self._store.database.run(self._store.parts, self._batch.id)
        await self._write_file(parts, "output", self._batch.output_file_id)
        await self._write_file(parts, "errors", self._batch.error_file_id)
        self._batch = await self._store.database.run(self._store.finish, self._batch.id)

    async def _give_up_missing(self, writer: ResultWriter) -> None:
        error = EXPIRED if self._batch.status == "finalizing" else CANCELLED
        async with writer.storing():
            async for row in self._missing_rows(writer):
                await writer.add(unanswered(self._batch.id, row, *error))

    async def _write_file(self, parts: list[ResultPart], kind: Kind, file_id: str | None) -> None:
        names = [part.name for part in parts if (part.output_lines if kind == "output" else part.error_lines)]
        if not names:
            return

        async def blocks() -> AsyncIterator[bytes]:
            for name in names:
                yield await asyncio.to_thread(self._folder.read, name, kind)

        await self._services.files.create(
            self._batch.owner,
            "batch_output",
            f"{self._batch.id}_{'output' if kind == 'output' else 'error'}.jsonl",
            blocks(),
            file_id=file_id,
            expires_after_s=self._batch.output_expires_after_s,
        )

    async def _clean(self) -> None:
        assert self._batch.status in ENDED
        await asyncio.to_thread(self._folder.delete)
        await self._store.database.run(self._store.forget_parts, self._batch.id)

    async def _open_writer(self) -> ResultWriter:
        writer = ResultWriter(self._batch.id, self._store, self._folder)
        await writer.open()
        return writer

    async def _missing_rows(self, writer: ResultWriter) -> AsyncIterator[InputRow]:
        """The rows of the validated input file that have no stored result."""
        async for lines in self._lines(NO_LIMITS):
            for line in lines:
                if not line.is_blank and line.number not in writer.done:
                    yield parse_row(line, self._batch.endpoint, NO_LIMITS)

    async def _lines(self, limits: HttpLimits) -> AsyncIterator[Iterator[InputLine]]:
        """The lines of the input file, block by block. Raises ObjectNotFoundError if it is gone."""
        files = self._services.files
        record = await files.find(self._batch.owner, self._batch.input_file_id)
        async for lines in read_lines(files.blocks(record), max_line_bytes(limits)):
            yield lines
