"""UploadRecords: the rows of uploads and their parts. The methods wait for the database: call them by `database.run`.

PENDING ──▶ COMPLETING ──▶ COMPLETED        a client sees PENDING and COMPLETING as pending
   │ ▲           │
   │ └───────────┘  the parts are not the file that was announced, or the process died
   ├──▶ CANCELLED
   └──▶ EXPIRED
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update

from serve_apps.platform_app.files.records import STALE_S, FileRecords, not_found
from serve_apps.platform_app.files.tables import (
    CANCELLED,
    COMPLETED,
    COMPLETING,
    ERROR,
    EXPIRED,
    FILES,
    PENDING,
    PROCESSED,
    RECEIVING,
    UPLOAD_PARTS,
    UPLOADED,
    UPLOADS,
)
from serve_apps.platform_app.store.idempotency import IdempotentRequest
from serve_apps.platform_app.store.object_ids import FILE, UPLOAD, UPLOAD_PART, new_id
from tuneyard.api.wire.platform_api.files import FileObject, FilePurpose, UploadObject, UploadRequest, clean_filename
from tuneyard.core.errors import OverloadedError, RequestError
from tuneyard.core.wording import count_of
from tuneyard.storage.sql.text_keys import text_key

MAX_PARTS = 10_000
"""Parts of one upload."""

KEPT_S = 30 * 86400.0
"""How long the row of an upload stays after its end."""

DEAD_S = 300.0
"""Seconds without a sign of life after which the process that completes an upload is taken for dead."""

MAX_AT_ONCE = 200
"""Rows that one step of the reconciler changes."""


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """An upload. Times are Unix seconds."""

    id: str
    owner: str
    state: str
    purpose: FilePurpose
    filename: str
    bytes: int
    created_at: float
    expires_at: float
    file_expires_after_s: int | None
    file_id: str | None

    def as_object(self, file: FileObject | None) -> UploadObject:
        """The upload as clients see it; `file` if it is completed."""
        return UploadObject(
            id=self.id,
            bytes=self.bytes,
            created_at=int(self.created_at),
            expires_at=int(self.expires_at),
            filename=self.filename,
            purpose=self.purpose,
            status=PENDING if self.state == COMPLETING else self.state,
            file=file,
        )


class UploadRecords:
    """All uploads of all owners; `files` checks their space. `now` gives Unix time in seconds."""

    def __init__(self, files: FileRecords, expiry_s: float, now: Callable[[], float] = time.time) -> None:
        self.database = files.database
        self._files = files
        self._expiry_s = expiry_s
        self._now = now

    def create(self, owner: str, request: UploadRequest, idempotency_key: str) -> UploadRecord:
        """A new upload. Raises RequestError if its file does not fit into the owner's space."""
        now, upload_id = self._now(), new_id(UPLOAD)
        expiry = request.expires_after
        sent = IdempotentRequest(owner, "uploads", idempotency_key, request.model_dump())
        with self.database.writing(lock=owner) as connection:
            known_id = sent.claim(connection, upload_id, now)
            if known_id == upload_id:
                self._files.check_space(connection, owner, request.bytes)
                connection.execute(
                    insert(UPLOADS).values(
                        id=upload_id,
                        owner=owner,
                        created_at=now,
                        expires_at=now + self._expiry_s,
                        changed_at=now,
                        state=PENDING,
                        purpose=request.purpose,
                        filename=clean_filename(request.filename),
                        mime_type=request.mime_type,
                        bytes=request.bytes,
                        file_expires_after_s=expiry.seconds if expiry is not None else None,
                    )
                )
            return self._find(connection, owner, known_id)

    def find(self, owner: str, upload_id: str) -> UploadRecord:
        """The upload. Raises ObjectNotFoundError."""
        with self.database.reading() as connection:
            return self._find(connection, owner, upload_id)

    def begin_part(self, owner: str, upload_id: str, size: int) -> str:
        """The id of a new part, of so many bytes at most. Raises RequestError unless the upload takes it."""
        with self.database.writing(lock=owner) as connection:
            upload = self._find(connection, owner, upload_id)
            _check_pending(upload)
            count, received = connection.execute(
                select(func.count(), func.coalesce(func.sum(UPLOAD_PARTS.c.bytes), 0)).where(
                    UPLOAD_PARTS.c.upload_id == upload.id
                )
            ).one()
            # Twice: a client that did not get an answer sends a part again, and names only one of the two at the end.
            if count >= MAX_PARTS or received + size > 2 * upload.bytes + size:
                raise RequestError(
                    f"The upload {upload.id} has {count_of(count, 'part')} with {int(received):,} bytes, and its file "
                    f"is to have {upload.bytes:,} bytes. Complete it, or cancel it and start again.",
                    code="limit_exceeded",
                )
            self._files.check_space(connection, owner, size)
            part_id = new_id(UPLOAD_PART)
            values = {"upload_id": upload.id, "owner": owner, "created_at": self._now(), "bytes": size}
            connection.execute(insert(UPLOAD_PARTS).values(id=part_id, state=RECEIVING, **values))
            return part_id

    def finish_part(self, owner: str, upload_id: str, part_id: str, size: int) -> float:
        """Makes a part that was received a part of its upload. The time of its creation.

        Raises RequestError if the upload takes no parts any more.
        """
        with self.database.writing(lock=owner) as connection:
            _check_pending(self._find(connection, owner, upload_id))
            receiving = update(UPLOAD_PARTS).where(UPLOAD_PARTS.c.id == part_id, UPLOAD_PARTS.c.state == RECEIVING)
            changed = connection.execute(receiving.values(state=UPLOADED, bytes=size))
            if not changed.rowcount:
                raise RequestError("The part arrived too slowly and was given up. Send it again.", code="part_expired")
            created_at = select(UPLOAD_PARTS.c.created_at).where(UPLOAD_PARTS.c.id == part_id)
            return float(connection.execute(created_at).scalar_one())

    def begin_completion(self, owner: str, upload_id: str, part_ids: Sequence[str]) -> UploadRecord:
        """The upload, COMPLETING now with these parts, or COMPLETED before. Raises RequestError for wrong parts."""
        with self.database.writing(lock=owner) as connection:
            upload = self._find(connection, owner, upload_id)
            if upload.state == COMPLETING:
                _settle(connection, upload.id, self._now())
                upload = self._find(connection, owner, upload_id)
            if upload.state == COMPLETED:
                return upload
            _check_pending(upload)
            _check_parts(connection, upload, part_ids)
            values = {"state": COMPLETING, "changed_at": self._now(), "file_id": new_id(FILE)}
            connection.execute(update(UPLOADS).where(UPLOADS.c.id == upload.id).values(**values))
            return self._find(connection, owner, upload_id)

    def end_completion(self, upload: UploadRecord, *, is_done: bool) -> bool:
        """Makes an upload either COMPLETED or PENDING again. False if it is not COMPLETING to this file any more."""
        with self.database.writing(lock=upload.owner) as connection:
            _settle(connection, upload.id, self._now())
            row = connection.execute(select(UPLOADS).where(UPLOADS.c.id == upload.id)).one()
            if row.file_id != upload.file_id:
                return False
            if row.state == COMPLETING:
                _set_state(connection, upload.id, COMPLETED if is_done else PENDING, self._now())
            return True

    def cancel(self, owner: str, upload_id: str) -> UploadRecord:
        """The upload, CANCELLED now or before. Raises RequestError if it is completed or expired."""
        with self.database.writing(lock=owner) as connection:
            upload = self._find(connection, owner, upload_id)
            if upload.state != CANCELLED:
                _check_pending(upload)
                _set_state(connection, upload.id, CANCELLED, self._now())
            return self._find(connection, owner, upload_id)

    def end_overdue(self) -> None:
        """Expires uploads, and ends completions whose process has died; forgets uploads that ended long ago."""
        now = self._now()
        with self.database.writing() as connection:
            overdue = update(UPLOADS).where(UPLOADS.c.state == PENDING, UPLOADS.c.expires_at <= now)
            connection.execute(overdue.values(state=EXPIRED, changed_at=now))
            completing = select(UPLOADS.c.id).where(UPLOADS.c.state == COMPLETING, UPLOADS.c.changed_at < now - DEAD_S)
            for upload_id in connection.execute(completing.limit(MAX_AT_ONCE)).scalars().all():
                _settle(connection, upload_id, now)
            ended = UPLOADS.c.state.in_((COMPLETED, CANCELLED, EXPIRED)) & (UPLOADS.c.changed_at < now - KEPT_S)
            connection.execute(delete(UPLOADS).where(ended))

    def parts_to_delete(self) -> list[str]:
        """Parts of uploads that have ended, and parts that are given up; at most MAX_AT_ONCE."""
        is_needed = select(UPLOADS.c.id).where(UPLOADS.c.state.in_((PENDING, COMPLETING)))
        is_stale = (UPLOAD_PARTS.c.state == RECEIVING) & (UPLOAD_PARTS.c.created_at < self._now() - 4 * STALE_S)
        query = select(UPLOAD_PARTS.c.id).where(UPLOAD_PARTS.c.upload_id.not_in(is_needed) | is_stale)
        with self.database.reading() as connection:
            return list(connection.execute(query.limit(MAX_AT_ONCE)).scalars())

    def forget_part(self, part_id: str) -> None:
        """Removes the row of a part whose content is deleted."""
        with self.database.writing() as connection:
            connection.execute(delete(UPLOAD_PARTS).where(UPLOAD_PARTS.c.id == part_id))

    def _find(self, connection: Connection, owner: str, upload_id: str) -> UploadRecord:
        row = connection.execute(select(UPLOADS).where(_is_upload(owner, upload_id))).first()
        if row is None:
            raise not_found("Upload", upload_id)
        return _record(row, self._now())


def _settle(connection: Connection, upload_id: str, now: float) -> None:
    """Ends a completion whose file is there already, and one whose process is dead."""
    query = select(UPLOADS.c.changed_at, UPLOADS.c.file_id).where(
        UPLOADS.c.id == upload_id, UPLOADS.c.state == COMPLETING
    )
    upload = connection.execute(query.with_for_update()).first()
    if upload is None:
        return
    file = connection.execute(select(FILES.c.state, FILES.c.changed_at).where(FILES.c.id == upload.file_id)).first()
    alive_at = max(upload.changed_at, file.changed_at if file is not None else 0.0)
    if file is not None and file.state in (PROCESSED, ERROR):
        _set_state(connection, upload_id, COMPLETED, now)
    elif alive_at < now - DEAD_S:
        _set_state(connection, upload_id, PENDING, now)


def _set_state(connection: Connection, upload_id: str, state: str, now: float) -> None:
    values: dict[str, Any] = {"state": state, "changed_at": now} | ({"file_id": None} if state == PENDING else {})
    connection.execute(update(UPLOADS).where(UPLOADS.c.id == upload_id).values(**values))


def _check_pending(upload: UploadRecord) -> None:
    """Raises RequestError unless the upload takes parts; OverloadedError while it is being completed."""
    if upload.state == COMPLETING:
        raise OverloadedError(
            f"The upload {upload.id} is being completed. Retry after {OverloadedError.retry_after_s} s.",
            code="upload_completing",
        )
    if upload.state != PENDING:
        raise RequestError(
            f"The upload {upload.id} is {upload.state}. Create a new one: POST /v1/uploads.", code="upload_ended"
        )


def _check_parts(connection: Connection, upload: UploadRecord, part_ids: Sequence[str]) -> None:
    """Raises RequestError unless these are different parts of the upload, with the announced size together."""
    query = select(UPLOAD_PARTS.c.id, UPLOAD_PARTS.c.bytes).where(
        UPLOAD_PARTS.c.upload_id == upload.id, UPLOAD_PARTS.c.state == UPLOADED
    )
    sizes = {row.id: row.bytes for row in connection.execute(query)}
    if len(set(part_ids)) != len(part_ids):
        raise RequestError("'part_ids' names a part twice.", param="part_ids", code="invalid_value")
    if unknown := [part_id for part_id in part_ids if part_id not in sizes]:
        raise RequestError(
            f"The upload {upload.id} has no part {unknown[0][:100]!r}.", param="part_ids", code="invalid_value"
        )
    size = sum(sizes[part_id] for part_id in part_ids)
    if size != upload.bytes:
        raise RequestError(
            f"The parts have {size:,} bytes together, and the upload was created with bytes={upload.bytes:,}. Send the "
            "missing parts, or name them all.",
            param="part_ids",
            code="size_mismatch",
        )


def _is_upload(owner: str, upload_id: str) -> ColumnElement[bool]:
    return (UPLOADS.c.id == text_key(upload_id)) & (UPLOADS.c.owner == owner)


def _record(row: Row[Any], now: float) -> UploadRecord:
    return UploadRecord(
        id=row.id,
        owner=row.owner,
        state=EXPIRED if row.state == PENDING and row.expires_at <= now else row.state,
        purpose=row.purpose,
        filename=row.filename,
        bytes=row.bytes,
        created_at=row.created_at,
        expires_at=row.expires_at,
        file_expires_after_s=row.file_expires_after_s,
        file_id=row.file_id,
    )
