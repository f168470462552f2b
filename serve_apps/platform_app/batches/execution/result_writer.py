"""ResultWriter: stores the results of a batch in parts, each request's once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import fields

from serve_apps.platform_app.batches.batch_store import BatchStore, PartConflictError, PartCounts, ResultPart
from serve_apps.platform_app.batches.execution.line_set import LineSet
from serve_apps.platform_app.batches.execution.result_folder import KINDS, ResultFolder
from serve_apps.platform_app.batches.execution.result_lines import RowResult
from tuneyard.core.errors import StorageError, StorageFullError, StoreUnavailableError

INTERVAL_S = 1.0
"""How often results are stored. What was answered since then is answered again after a crash."""

MAX_PART_BYTES = 8 * 2**20
"""Bytes of results that are stored without waiting for the interval."""

RETRY_S = 5.0
"""Seconds after which results are stored again that the disk or the database did not take."""

logger = logging.getLogger(__name__)


class ResultWriter:
    """Results of one batch. `open` first. Of `add`, the caller may need to wait until results before it are stored."""

    def __init__(self, batch_id: str, store: BatchStore, folder: ResultFolder) -> None:
        self.done = LineSet()
        """The lines whose results are stored."""
        self._batch_id = batch_id
        self._store = store
        self._folder = folder
        self._next_number = 1
        self._results: list[RowResult] = []
        self._bytes = 0
        self._is_full = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._storing = asyncio.Lock()

    async def open(self) -> None:
        """Reads which results are stored."""
        parts = await self._store.database.run(self._store.parts, self._batch_id)
        for part in parts:
            self.done.add(LineSet.parse(part.lines))
        self._next_number = len(parts) + 1

    async def add(self, result: RowResult) -> None:
        """Takes a result, which is stored with the next part."""
        await self._has_room.wait()
        self._results.append(result)
        self._bytes += len(result.line)
        if self._bytes >= MAX_PART_BYTES:
            self._is_full.set()
            self._has_room.clear()

    @contextlib.asynccontextmanager
    async def storing(self) -> AsyncIterator[None]:
        """Results are stored at intervals while the context is open, and all of them at its end.

        If the context ends because its task is cancelled, what is answered is stored too.
        """
        try:
            async with asyncio.TaskGroup() as group:
                keeper = group.create_task(self._keep_storing())
                yield
                keeper.cancel()
        finally:
            await self.store()

    async def store(self) -> None:
        """Stores what was added. Raises StorageError, StorageFullError and StoreUnavailableError; it is then kept."""
        async with self._storing:
            while self._results:
                results, self._results, self._bytes = self._results, [], 0
                self._is_full.clear()
                try:
                    await self._store_part([result for result in results if result.number not in self.done])
                except BaseException:
                    self._results = results + self._results
                    self._bytes = sum(len(result.line) for result in self._results)
                    raise
                self._has_room.set()

    async def _store_part(self, results: list[RowResult]) -> None:
        if not results:
            return
        name = ResultFolder.new_name()
        for kind in KINDS:
            if lines := [result.line for result in results if result.is_output == (kind == "output")]:
                await asyncio.to_thread(self._folder.write, name, kind, b"".join(lines))
        outputs = sum(result.is_output for result in results)
        numbers = LineSet(result.number for result in results)
        part = ResultPart(self._next_number, name, str(numbers), outputs, len(results) - outputs)
        try:
            await self._store.database.run(self._store.add_part, self._batch_id, part, _sum(results))
        except PartConflictError:
            logger.warning("%s: another process has stored results of this batch", self._batch_id)
            await self.open()
            await self._store_part([result for result in results if result.number not in self.done])
            return
        self.done.add(numbers)
        self._next_number += 1

    async def _keep_storing(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_S):
                    await self._is_full.wait()
            try:
                await self.store()
            except (StorageError, StorageFullError, StoreUnavailableError) as e:
                logger.warning("%s: results stay in memory until they can be stored: %s", self._batch_id, e)
                await asyncio.sleep(RETRY_S)


def _sum(results: list[RowResult]) -> PartCounts:
    return PartCounts(*(sum(getattr(result.counts, field.name) for result in results) for field in fields(PartCounts)))
