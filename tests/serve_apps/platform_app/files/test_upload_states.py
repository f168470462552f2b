"""Any sequence of requests, deaths and steps of the reconciler: an upload has one end, and no bytes are orphaned."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import select, update

from serve_apps.platform_app.files.tables import FILES, UPLOAD_PARTS, UPLOADS
from tests.serve_apps.platform_app.conftest import stored_names
from tests.serve_apps.platform_app.platform_under_test import open_platform
from tuneyard.storage.sql.location import SqlLocation

PART = b'{"n": 1}\n'
PARTS = 3
"""Parts of the whole file."""
SHARED_MEMORY = Path("/dev/shm")


class Uploads(RuleBasedStateMachine):
    """One client's view of one upload, beside the real application."""

    def __init__(self) -> None:
        super().__init__()
        # In memory where that is possible: some 20 transactions in each history wait for the disk, however busy it is.
        self.folder = Path(tempfile.mkdtemp(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None))
        self.opened = open_platform(SqlLocation(file=self.folder / "db"), self.folder)
        self.platform = self.opened.__enter__()
        self.loop = asyncio.new_event_loop()
        self.client = self.platform.sdk()
        upload = self.run(
            self.client.uploads.create(
                bytes=len(PART) * PARTS, filename="a.jsonl", mime_type="text/jsonl", purpose="batch"
            )
        )
        self.upload: str = upload.id
        self.parts: list[str] = []
        self.end: str | None = None
        """`completed`, `cancelled` or `expired`, once the client was told so."""
        self.file: str | None = None
        self.is_dead = False
        """Whether a process died while it completed the upload."""
        self.is_overdue = False

    def run(self, call: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(call, 60))

    def teardown(self) -> None:
        self.run(self.client.close())
        self.loop.close()
        self.opened.__exit__(None, None, None)
        shutil.rmtree(self.folder)

    @rule()
    def add_part(self) -> None:
        try:
            self.parts.append(self.run(self.client.uploads.parts.create(self.upload, data=PART)).id)
            assert self.end is None
        except openai.BadRequestError as e:
            assert self.end is not None or e.code == "limit_exceeded"
        except openai.InternalServerError:
            assert self.is_dead

    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        part_ids = data.draw(st.lists(st.sampled_from(self.parts), max_size=4)) if self.parts else []
        try:
            done = self.run(self.client.uploads.complete(self.upload, part_ids=part_ids))
        except openai.BadRequestError:
            is_wrong = len(part_ids) != PARTS or len(set(part_ids)) != PARTS
            assert self.end in ("cancelled", "expired") or self.is_overdue or is_wrong
            return
        except openai.InternalServerError:
            assert self.is_dead
            return
        assert done.status == "completed"
        assert self.end in (None, "completed")
        assert self.file in (None, done.file.id)
        self.end, self.file, self.is_dead = "completed", done.file.id, False
        assert self.run(self.client.files.content(self.file)).content == PART * PARTS

    @rule()
    def cancel(self) -> None:
        try:
            assert self.run(self.client.uploads.cancel(self.upload)).status == "cancelled"
            assert self.end in (None, "cancelled")
            self.end = "cancelled"
        except openai.BadRequestError:
            assert self.end in ("completed", "expired")
        except openai.InternalServerError:
            assert self.is_dead

    @rule()
    def die_in_completion(self) -> None:
        """A process begins to complete the upload, long ago, and dies."""
        if self.end is None:
            self.is_dead = True
            with self.platform.context.database.writing() as connection:
                connection.execute(update(UPLOADS).values(state="completing", file_id="file-0", changed_at=1.0))

    @rule()
    def die_in_part(self) -> None:
        """A process begins to receive a part, long ago, and dies."""
        if self.end is None and not self.is_dead:
            records = self.platform.parts[0]._uploads.records  # type: ignore[attr-defined]
            try:
                part = records.begin_part("", self.upload, len(PART))
            except Exception as e:  # noqa: BLE001  # too many parts, which add_part tests
                assert getattr(e, "code", "") == "limit_exceeded"
                return
            self.platform.context.files.content.begin(part).write(PART)
            with self.platform.context.database.writing() as connection:
                connection.execute(update(UPLOAD_PARTS).where(UPLOAD_PARTS.c.id == part).values(created_at=1.0))

    @rule()
    def expire(self) -> None:
        with self.platform.context.database.writing() as connection:
            connection.execute(update(UPLOADS).values(expires_at=1.0))
        self.is_overdue = True
        if not self.is_dead:
            self.end = self.end or "expired"

    @rule()
    def reconcile(self) -> None:
        self.run(self.platform.reconcile())
        with self.platform.context.database.reading() as connection:
            state = connection.execute(select(UPLOADS.c.state)).scalar_one()
        assert state != "completing"
        self.settle()

    def settle(self) -> None:
        """The completion whose process died has ended: its upload is as it was before."""
        self.is_dead = False
        if self.is_overdue:
            self.end = self.end or "expired"

    @invariant()
    def nothing_is_orphaned(self) -> None:
        """Every stored content has a row, and every visible row its content."""
        if not hasattr(self, "upload"):
            return
        names = stored_names(self.folder / "files")
        with self.platform.context.database.reading() as connection:
            files = {row.content_key: row.id for row in connection.execute(select(FILES))}
            parts = {row.id: row.state for row in connection.execute(select(UPLOAD_PARTS))}
        assert {name.partition(".")[0] for name in names} <= files.keys() | parts.keys()
        assert {f"{i}.jsonl" for i in files} | {
            f"{i}.part" for i, state in parts.items() if state != "receiving"
        } <= set(names)
        if self.end in ("cancelled", "expired"):
            assert not files
        if self.end == "completed":
            assert list(files.values()) == [self.file]


Uploads.TestCase.settings = settings(max_examples=12, stateful_step_count=12, deadline=None)
TestUploads = Uploads.TestCase


@pytest.mark.long
def test_many_more_histories() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    long = settings(max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Uploads, settings=long)
