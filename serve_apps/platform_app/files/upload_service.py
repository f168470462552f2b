"""UploadService: uploads in parts: receives the parts, and makes them a file."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence

from anyio import CancelScope, to_thread

from serve_apps.platform_app.files.file_service import FileService
from serve_apps.platform_app.files.incoming_bytes import IncomingBytes
from serve_apps.platform_app.files.records import FileRecord
from serve_apps.platform_app.files.row_check import check_content
from serve_apps.platform_app.files.tables import COMPLETED
from serve_apps.platform_app.files.upload_records import UploadRecord, UploadRecords
from tuneyard.api.wire.platform_api.files import UploadPart
from tuneyard.core.errors import RequestError, TuneyardError

logger = logging.getLogger(__name__)


class UploadService:
    """Uploads, whose files are those of `files`."""

    def __init__(self, records: UploadRecords, files: FileService) -> None:
        self.records = records
        self._files = files
        self._content = files.content
        self._run = records.database.run

    async def add_part(self, owner: str, upload_id: str, size: int, blocks: AsyncIterator[bytes]) -> UploadPart:
        """A new part with these bytes, `size` at most. Without all of them nothing is left of it.

        Raises RequestError unless the upload takes it, StorageFullError and StorageError.
        """
        part_id = await self._run(self.records.begin_part, owner, upload_id, size)
        incoming = IncomingBytes(self._content, part_id)
        is_finished = False
        try:
            async for block in blocks:
                await incoming.write(block)
            if not incoming.size:
                raise RequestError("The part is empty.", param="data", code="empty_file")
            await incoming.publish(_part_name(part_id))
            created_at = await self._run(self.records.finish_part, owner, upload_id, part_id, incoming.size)
            is_finished = True
            return UploadPart(id=part_id, created_at=int(created_at), upload_id=upload_id)
        finally:
            if not is_finished:
                # Shielded, because a client that disconnects cancels the request.
                with CancelScope(shield=True):
                    await incoming.discard()
                    await self._delete_part(part_id)

    async def complete(
        self, owner: str, upload_id: str, part_ids: Sequence[str], md5: str | None
    ) -> tuple[UploadRecord, FileRecord]:
        """The completed upload and its file, which has the content of these parts in this order.

        Raises RequestError, after which the upload is as before, if the parts are not the announced file.
        """
        upload = await self._run(self.records.begin_completion, owner, upload_id, part_ids)
        assert upload.file_id is not None
        if upload.state == COMPLETED:
            return upload, await self._files.find(owner, upload.file_id)
        file: FileRecord | None = None
        try:
            file = await self._join(upload, upload.file_id, part_ids, md5)
        finally:
            with CancelScope(shield=True):
                is_ended = await self._run(self.records.end_completion, upload, is_done=file is not None)
                if file is not None and not is_ended:
                    await self._files.delete(owner, file.id)
        if not is_ended:
            raise RequestError(
                f"The upload {upload_id} was completed by another request meanwhile. Send the request again.",
                code="upload_completing",
            )
        return await self._run(self.records.find, owner, upload_id), file

    async def clean_up(self) -> None:
        """One step of the reconciler: ends uploads that are overdue, and deletes parts that are not needed."""
        await self._run(self.records.end_overdue)
        for part_id in await self._run(self.records.parts_to_delete):
            await self._delete_part(part_id)

    async def _join(self, upload: UploadRecord, file_id: str, part_ids: Sequence[str], md5: str | None) -> FileRecord:
        # Space is not counted again: the parts have it, and are deleted next.
        async with self._files.receive(
            upload.owner, file_id=file_id, is_upload=False, with_md5=md5 is not None
        ) as receiving:
            for part_id in part_ids:
                async for block in self._content.blocks(_part_name(part_id)):
                    await receiving.write(block)
            await receiving.bytes.flush()
            if md5 is not None and receiving.bytes.md5 != md5:
                raise RequestError(
                    f"The parts in this order have the md5 {receiving.bytes.md5}, and the request says {md5}.",
                    param="md5",
                    code="checksum_mismatch",
                )
            details = await check_content(receiving.bytes, upload.purpose, upload.filename)
            return await receiving.finish(upload.purpose, upload.filename, upload.file_expires_after_s, details)

    async def _delete_part(self, part_id: str) -> None:
        try:
            await to_thread.run_sync(self._content.delete, part_id, _part_name(part_id))
            await self._run(self.records.forget_part, part_id)
        except TuneyardError as e:
            logger.warning("the part %s stays for the reconciler to delete: %s", part_id, e)


def _part_name(part_id: str) -> str:
    return f"{part_id}.part"
