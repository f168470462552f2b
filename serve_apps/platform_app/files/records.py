"""FileRecords: the rows of files. The methods wait for the database: call them by `database.run`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

from sqlalchemy import ColumnElement, Connection, Row, delete, exists, func, insert, or_, select, update

from serve_apps.platform_app.files.tables import (
    DELETING,
    ERROR,
    FILE_USES,
    FILES,
    PROCESSED,
    RECEIVING,
    UPLOAD_PARTS,
)
from serve_apps.platform_app.store.object_ids import FILE
from serve_apps.platform_app.store.paging import read_page
from tuneyard.api.wire.platform_api.files import FileObject, FilePurpose, FileQuery
from tuneyard.core.errors import ObjectNotFoundError, RequestError
from tuneyard.storage.sql.database import SqlDatabase
from tuneyard.storage.sql.text_keys import text_key

STALE_S = 1800.0
"""Seconds without a sign of life after which a file that is received is given up: its process has died."""

MAX_DELETED_AT_ONCE = 100
"""Files that one step of the reconciler deletes."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file that clients see. Times are Unix seconds."""

    id: str
    owner: str
    purpose: FilePurpose
    filename: str
    bytes: int
    created_at: float
    expires_at: float | None
    sha256: str
    content_key: str
    details: str | None
    """What is wrong with the content; None if nothing is known to be."""

    @property
    def content_name(self) -> str:
        """The name of the content in the ContentStore."""
        return content_name(self.content_key, self.purpose)

    def as_object(self) -> FileObject:
        """The file as clients see it."""
        return FileObject(
            id=self.id,
            bytes=self.bytes,
            created_at=int(self.created_at),
            expires_at=int(self.expires_at) if self.expires_at is not None else None,
            filename=self.filename,
            purpose=self.purpose,
            status=PROCESSED if self.details is None else ERROR,
            status_details=self.details,
            sha256=self.sha256,
        )


@dataclass(frozen=True, slots=True)
class FileAttempt:
    """An attempt of one process to write a file."""

    owner: str
    file_id: str
    content_key: str

    @classmethod
    def of(cls, owner: str, file_id: str) -> Self:
        """A new attempt. Two processes that write the same file write different contents, and one of them counts."""
        return cls(owner, file_id, f"{file_id}-{secrets.token_hex(4)}")


def content_name(content_key: str, purpose: str) -> str:
    """The name of a file's content: its ending tells programs of the cluster what it is."""
    return f"{content_key}{'.csv' if purpose == 'fine-tune-results' else '.jsonl'}"


class FileRecords:
    """All files of all owners. `now` gives Unix time in seconds; `max_bytes_per_owner` is for what clients upload."""

    def __init__(self, database: SqlDatabase, max_bytes_per_owner: float, now: Callable[[], float] = time.time) -> None:
        self.database = database
        self._max_bytes_per_owner = max_bytes_per_owner
        self.now = now

    def find(self, owner: str, file_id: str) -> FileRecord:
        """The file. Raises ObjectNotFoundError if there is none, or it is another owner's."""
        with self.database.reading() as connection:
            return self.find_in(connection, owner, file_id)

    def find_in(self, connection: Connection, owner: str, file_id: str) -> FileRecord:
        """As find, in the caller's transaction."""
        row = connection.execute(select(FILES).where(_is_file(owner, file_id), self._is_visible())).first()
        if row is None:
            raise not_found("File", file_id)
        return _record(row)

    def list_page(self, owner: str, query: FileQuery) -> tuple[list[FileRecord], bool]:
        """The files of a page, and whether more follow."""
        statement = select(FILES).where(FILES.c.owner == owner, self._is_visible())
        if query.purpose is not None:
            statement = statement.where(FILES.c.purpose == text_key(query.purpose))
        with self.database.reading() as connection:
            rows, has_more = read_page(connection, statement, FILES.c.id, FILE, query)
        return [_record(row) for row in rows], has_more

    def begin(self, attempt: FileAttempt, size: int, *, is_upload: bool) -> FileRecord | str | None:
        """Registers a file that is to be received, of so many bytes.

        The file, if it is there already. The content_key of an earlier attempt, whose process has died, if there was
        one: it is hidden, and the caller deletes its content, then its row, and calls again. Until then the row names
        the content, also if this process dies too. Raises RequestError if an upload does not fit into the owner's
        space.
        """
        owner, file_id, now = attempt.owner, attempt.file_id, self.now()
        with self.database.writing(lock=owner) as connection:
            row = connection.execute(select(FILES).where(_is_file(owner, file_id)).with_for_update()).first()
            if row is not None and row.state in (PROCESSED, ERROR):
                return _record(row)
            if row is not None:
                connection.execute(update(FILES).where(FILES.c.id == file_id).values(state=DELETING))
                return str(row.content_key)
            if is_upload:
                self.check_space(connection, owner, size)
            values: dict[str, Any] = {"id": file_id, "owner": owner, "content_key": attempt.content_key}
            values |= {"state": RECEIVING, "bytes": size, "created_at": now, "changed_at": now}
            connection.execute(insert(FILES).values(**values, purpose="", filename=""))
        return None

    def keep_receiving(self, attempt: FileAttempt, size: int, wanted: int, *, is_upload: bool) -> int | None:
        """A sign of life of an attempt that has `size` bytes. The bytes that it has reserved now: as many as `wanted`,
        if that fits into the owner's space. None if it was given up. Raises RequestError if not even `size` fit.
        """
        with self.database.writing(lock=attempt.owner) as connection:
            receiving = _is_attempt(attempt) & (FILES.c.state == RECEIVING)
            known = connection.execute(select(FILES.c.bytes).where(receiving)).scalar()
            if known is None:
                return None
            if is_upload and wanted > known:
                wanted = max(size, min(wanted, known + self._space_left(connection, attempt.owner)))
                self.check_space(connection, attempt.owner, wanted - known)
            connection.execute(update(FILES).where(receiving).values(changed_at=self.now(), bytes=wanted))
            return wanted

    def finish(self, record: FileRecord) -> FileRecord | None:
        """Makes a received file visible. The file: another one if another attempt has finished it; None if it was given
        up meanwhile."""
        attempt = FileAttempt(record.owner, record.id, record.content_key)
        with self.database.writing(lock=record.owner) as connection:
            receiving = update(FILES).where(_is_attempt(attempt), FILES.c.state == RECEIVING)
            values = {
                "state": PROCESSED if record.details is None else ERROR,
                "purpose": record.purpose,
                "filename": record.filename,
                "bytes": record.bytes,
                "created_at": record.created_at,
                "expires_at": record.expires_at,
                "changed_at": self.now(),
                "sha256": record.sha256,
                "details": record.details,
            }
            if connection.execute(receiving.values(**values)).rowcount:
                return record
            finished = FILES.c.state.in_((PROCESSED, ERROR))
            row = connection.execute(select(FILES).where(_is_file(record.owner, record.id), finished)).first()
            return _record(row) if row is not None else None

    def give_up(self, attempt: FileAttempt) -> Literal["given up", "finished", "taken over"]:
        """Hides the file of an attempt that failed, unless it is finished after all, or another attempt's now."""
        with self.database.writing(lock=attempt.owner) as connection:
            giving_up = update(FILES).where(_is_attempt(attempt), FILES.c.state.in_((RECEIVING, DELETING)))
            if connection.execute(giving_up.values(state=DELETING)).rowcount:
                return "given up"
            is_there = connection.execute(select(FILES.c.id).where(_is_attempt(attempt))).first() is not None
            return "finished" if is_there else "taken over"

    def begin_deletion(self, owner: str, file_id: str) -> FileRecord:
        """Hides the file, whose content is then to be deleted. Raises ObjectNotFoundError, and RequestError if an
        unfinished object uses it."""
        with self.database.writing(lock=owner) as connection:
            # Locked first: in PostgreSQL the second statement then sees a `hold` that was committed meanwhile.
            connection.execute(select(FILES.c.id).where(_is_file(owner, file_id)).with_for_update())
            record = self.find_in(connection, owner, file_id)
            user = connection.execute(select(FILE_USES.c.used_by).where(FILE_USES.c.file_id == record.id)).scalar()
            if user is not None:
                raise RequestError(
                    f"The file {record.id} is used by {user}, which has not ended. Cancel it or wait for its end, then "
                    "delete the file.",
                    param="file_id",
                    code="file_in_use",
                )
            connection.execute(update(FILES).where(FILES.c.id == record.id).values(state=DELETING))
        return record

    def begin_unfinished_deletion(self, owner: str, file_id: str) -> str | None:
        """Hides a file that is being received, or was when its process died. Its content_key; None if there is none."""
        with self.database.writing(lock=owner) as connection:
            unfinished = _is_file(owner, file_id) & FILES.c.state.in_((RECEIVING, DELETING))
            key = connection.execute(select(FILES.c.content_key).where(unfinished).with_for_update()).scalar()
            connection.execute(update(FILES).where(unfinished).values(state=DELETING))
            return key

    def forget(self, content_key: str) -> None:
        """Removes the row of a file whose content is deleted."""
        with self.database.writing() as connection:
            deleted = (FILES.c.content_key == content_key) & (FILES.c.state == DELETING)
            connection.execute(delete(FILES).where(deleted))

    def begin_overdue_deletions(self) -> list[str]:
        """Hides files that have expired and are not used, and those that are given up. The content_keys of all files
        whose content is to be deleted, at most MAX_DELETED_AT_ONCE."""
        now = self.now()
        is_expired = (FILES.c.expires_at <= now) & FILES.c.state.in_((PROCESSED, ERROR)) & ~_is_used()
        is_stale = (FILES.c.state == RECEIVING) & (FILES.c.changed_at < now - STALE_S)
        overdue = select(FILES.c.id).where(or_(is_expired, is_stale)).limit(MAX_DELETED_AT_ONCE)
        with self.database.writing() as connection:
            ids = connection.execute(overdue.with_for_update(skip_locked=True)).scalars().all()
            if ids:  # asked again, because a file may have been held meanwhile
                hiding = update(FILES).where(FILES.c.id.in_(ids), or_(is_expired, is_stale))
                connection.execute(hiding.values(state=DELETING))
            deleting = select(FILES.c.content_key).where(FILES.c.state == DELETING).limit(MAX_DELETED_AT_ONCE)
            return list(connection.execute(deleting).scalars())

    def check_space(self, connection: Connection, owner: str, size: int) -> None:
        """Raises RequestError if so many more bytes do not fit into the owner's space."""
        left = self._space_left(connection, owner)
        if size > left:
            limit = int(self._max_bytes_per_owner)
            raise RequestError(
                f"The files of this API key take {limit - left:,} bytes, and its limit is {limit:,} "
                f"(platform.max_gib_per_key): {size:,} more do not fit. Delete files that are not needed.",
                code="storage_quota_exceeded",
            )

    def _space_left(self, connection: Connection, owner: str) -> int:
        """Bytes, less than 0 if other parts of the application wrote files beyond the limit."""
        files = select(func.coalesce(func.sum(FILES.c.bytes), 0)).where(
            FILES.c.owner == owner, FILES.c.state != DELETING
        )
        parts = select(func.coalesce(func.sum(UPLOAD_PARTS.c.bytes), 0)).where(UPLOAD_PARTS.c.owner == owner)
        return int(self._max_bytes_per_owner) - sum(
            int(connection.execute(query).scalar_one()) for query in (files, parts)
        )

    def _is_visible(self) -> ColumnElement[bool]:
        """Whether clients see a file. One that is used stays beyond its expiry."""
        is_live = or_(FILES.c.expires_at.is_(None), FILES.c.expires_at > self.now(), _is_used())
        return FILES.c.state.in_((PROCESSED, ERROR)) & is_live


def hold(connection: Connection, owner: str, file_id: str, used_by: str) -> None:
    """Keeps a file from deletion until `release`. For a caller's transaction, which makes the object `used_by`.

    Raises ObjectNotFoundError if the owner has no such file.
    """
    is_there = _is_file(owner, file_id) & FILES.c.state.in_((PROCESSED, ERROR))
    if connection.execute(select(FILES.c.id).where(is_there).with_for_update()).first() is None:
        raise not_found("File", file_id)
    known = select(FILE_USES.c.file_id).where(FILE_USES.c.file_id == file_id, FILE_USES.c.used_by == used_by)
    if connection.execute(known).first() is None:
        connection.execute(insert(FILE_USES).values(file_id=file_id, used_by=used_by))


def release(connection: Connection, used_by: str) -> None:
    """Ends all uses of files by an object, which has ended. For a caller's transaction."""
    connection.execute(delete(FILE_USES).where(FILE_USES.c.used_by == used_by))


def not_found(kind: str, object_id: str) -> ObjectNotFoundError:
    """The error for an object that does not exist, or is another owner's, in OpenAI's words."""
    return ObjectNotFoundError(f"No such {kind} object: {object_id[:200]}", param="id", code="not_found")


def _is_file(owner: str, file_id: str) -> ColumnElement[bool]:
    return (FILES.c.id == text_key(file_id)) & (FILES.c.owner == owner)


def _is_attempt(attempt: FileAttempt) -> ColumnElement[bool]:
    return (FILES.c.id == attempt.file_id) & (FILES.c.content_key == attempt.content_key)


def _is_used() -> ColumnElement[bool]:
    return exists().where(FILE_USES.c.file_id == FILES.c.id)


def _record(row: Row[Any]) -> FileRecord:
    return FileRecord(
        id=row.id,
        owner=row.owner,
        purpose=row.purpose,
        filename=row.filename,
        bytes=row.bytes,
        created_at=row.created_at,
        expires_at=row.expires_at,
        sha256=row.sha256,
        content_key=row.content_key,
        details=row.details,
    )
