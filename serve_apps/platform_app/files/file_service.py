"""FileService: the files of all owners, for the routes and for the other parts."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from anyio import CancelScope, to_thread

from serve_apps.platform_app.files.content_store import BLOCK_BYTES, ContentStore
from serve_apps.platform_app.files.incoming_bytes import IncomingBytes
from serve_apps.platform_app.files.records import FileAttempt, FileRecord, FileRecords, content_name
from serve_apps.platform_app.store.object_ids import FILE, new_id
from tuneyard.api.wire.platform_api.files import FilePurpose, FileQuery
from tuneyard.core.errors import BodyTimeoutError, StorageError, TuneyardError

RESERVED_BYTES = 64 * 2**20
"""Space that a file of unknown size reserves at a time."""

HEARTBEAT_S = 60.0
"""Seconds after which a file that is received gives a sign of life."""

SUFFIXES = ("fine-tune", "fine-tune-results")
"""A purpose with each ending of content_name."""

logger = logging.getLogger(__name__)


class FileService:
    """Files. `now` gives Unix time in seconds.

    To keep a file while an object uses it: records.hold and records.release, in the transaction that changes the
    object.
    """

    def __init__(self, records: FileRecords, content: ContentStore, now: Callable[[], float] = time.time) -> None:
        self.records = records
        self.content = content
        self.run = records.database.run
        self.now = now

    async def find(self, owner: str, file_id: str) -> FileRecord:
        """The file. Raises ObjectNotFoundError if there is none, or it is another owner's."""
        return await self.run(self.records.find, owner, file_id)

    async def list_page(self, owner: str, query: FileQuery) -> tuple[list[FileRecord], bool]:
        """The files of a page, and whether more follow."""
        return await self.run(self.records.list_page, owner, query)

    def blocks(self, record: FileRecord) -> AsyncIterator[bytes]:
        """The content of a file that was found, in blocks. Raises StorageError."""
        return self.content.blocks(record.content_name)

    async def location(self, owner: str, file_id: str) -> str:
        """The path or URI of the content, for a process on another node. Raises ObjectNotFoundError."""
        return self.content.location_of((await self.find(owner, file_id)).content_name)

    async def create(
        self,
        owner: str,
        purpose: FilePurpose,
        filename: str,
        source: Path | AsyncIterator[bytes],
        *,
        file_id: str | None = None,
        expires_after_s: float | None = None,
    ) -> FileRecord:
        """A new file with the content of a local file or a stream; for parts, so it takes space beyond the limit too.

        With `file_id`, an id that the caller made and stored before, a call that is repeated returns the first file.
        """
        async with self.receive(owner, file_id=file_id, is_upload=False) as receiving:
            if receiving.existing is not None:
                return receiving.existing
            blocks = _file_blocks(source) if isinstance(source, Path) else source
            async for block in blocks:
                await receiving.write(block)
            return await receiving.finish(purpose, filename, expires_after_s)

    @contextlib.asynccontextmanager
    async def receive(
        self,
        owner: str,
        *,
        size: int = 0,
        file_id: str | None = None,
        is_upload: bool = True,
        with_md5: bool = False,
    ) -> AsyncIterator[ReceivedFile]:
        """A file to be written within the context; without `finish` nothing is left of it. `size`: what is known of it.

        Raises RequestError if it does not fit into the owner's space, StorageFullError and StorageError.
        """
        attempt = FileAttempt.of(owner, file_id or new_id(FILE))
        while isinstance(begun := await self.run(self.records.begin, attempt, size, is_upload=is_upload), str):
            await self.delete_content(begun)
        if isinstance(begun, FileRecord):
            yield ReceivedFile(self, attempt, size, is_upload=is_upload, with_md5=with_md5, existing=begun)
            return
        receiving = ReceivedFile(self, attempt, size, is_upload=is_upload, with_md5=with_md5)
        try:
            yield receiving
        finally:
            if not receiving.is_finished:
                # Shielded, because a client that disconnects cancels the request.
                with CancelScope(shield=True):
                    await receiving.discard()

    async def delete(self, owner: str, file_id: str) -> None:
        """Deletes the file. Raises ObjectNotFoundError, and RequestError if an unfinished object uses it."""
        record = await self.run(self.records.begin_deletion, owner, file_id)
        try:
            await self.delete_content(record.content_key)
        except TuneyardError as e:
            logger.warning("the content of %s stays for the reconciler to delete: %s", record.id, e)

    async def delete_unfinished(self, owner: str, file_id: str) -> None:
        """Deletes what was received of a file, if it is not finished and never will be. Raises StorageError."""
        content_key = await self.run(self.records.begin_unfinished_deletion, owner, file_id)
        if content_key is not None:
            await self.delete_content(content_key)

    async def delete_overdue(self) -> None:
        """One step of the reconciler: files that have expired, and what processes that died have left."""
        for content_key in await self.run(self.records.begin_overdue_deletions):
            await self.delete_content(content_key)

    async def delete_content(self, content_key: str) -> None:
        """Deletes a content that clients do not see, then the row of its file, if it is still the file's."""
        names = [content_name(content_key, purpose) for purpose in SUFFIXES]
        await to_thread.run_sync(self.content.delete, content_key, *names)
        await self.run(self.records.forget, content_key)


class ReceivedFile:
    """A file that is being received; see FileService.receive."""

    def __init__(
        self,
        service: FileService,
        attempt: FileAttempt,
        size: int,
        *,
        is_upload: bool,
        with_md5: bool,
        existing: FileRecord | None = None,
    ) -> None:
        self.existing = existing
        """The file, if it is there already: then nothing is to be received."""
        self.is_finished = False
        self.bytes = IncomingBytes(service.content, attempt.content_key, with_md5=with_md5)
        """What was written."""
        self._service = service
        self._attempt = attempt
        self._reserved = size
        self._is_upload = is_upload
        self._alive_at = time.monotonic()

    async def write(self, data: bytes) -> None:
        """Appends. Raises RequestError if it does not fit into the owner's space, StorageFullError, StorageError."""
        if self.bytes.size + len(data) > self._reserved or time.monotonic() - self._alive_at > HEARTBEAT_S:
            await self._keep_alive(self.bytes.size + len(data))
        await self.bytes.write(data)

    async def finish(
        self, purpose: FilePurpose, filename: str, expires_after_s: float | None, details: str | None = None
    ) -> FileRecord:
        """Makes it a file, which is durable when this returns. If another process has written the same file, that."""
        service, attempt, now = self._service, self._attempt, self._service.now()
        await self.bytes.flush()
        records = service.records
        size = self.bytes.size
        if await service.run(records.keep_receiving, attempt, size, size, is_upload=self._is_upload) is not None:
            await self.bytes.publish(content_name(attempt.content_key, purpose))
        record = FileRecord(
            id=attempt.file_id,
            owner=attempt.owner,
            purpose=purpose,
            filename=filename,
            bytes=self.bytes.size,
            created_at=now,
            expires_at=now + expires_after_s if expires_after_s is not None else None,
            sha256=self.bytes.sha256,
            content_key=attempt.content_key,
            details=details,
        )
        finished = await service.run(records.finish, record)
        if finished is None:
            raise given_up()
        self.is_finished = finished.content_key == attempt.content_key
        return finished

    async def discard(self) -> None:
        """Deletes what was received, unless the file is finished after all."""
        service = self._service
        await self.bytes.discard()
        try:
            if await service.run(service.records.give_up, self._attempt) != "finished":
                await service.delete_content(self._attempt.content_key)
        except TuneyardError as e:
            logger.warning(
                "%s, which was not received whole, stays for the reconciler to delete: %s", self._attempt.file_id, e
            )

    async def _keep_alive(self, size: int) -> None:
        service, wanted = self._service, self._reserved if size <= self._reserved else size + RESERVED_BYTES
        reserved = await service.run(
            service.records.keep_receiving, self._attempt, size, wanted, is_upload=self._is_upload
        )
        if reserved is None:
            raise given_up()
        self._reserved = reserved
        self._alive_at = time.monotonic()


def given_up() -> BodyTimeoutError:
    """The error for a file that arrived so slowly that the reconciler took its process for dead."""
    return BodyTimeoutError("The file arrived too slowly and was given up. Send it again.", code="body_timeout")


async def _file_blocks(path: Path) -> AsyncIterator[bytes]:
    try:
        file = await to_thread.run_sync(path.open, "rb")
    except OSError as e:
        raise StorageError(f"{path}: {e.strerror or e}") from e
    with file:
        while block := await to_thread.run_sync(file.read, BLOCK_BYTES):
            yield block
