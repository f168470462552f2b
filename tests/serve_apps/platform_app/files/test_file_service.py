"""Files of other parts, and what is left after a process died at any point."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from serve_apps.platform_app.files.content_store import ContentStore
from serve_apps.platform_app.files.file_service import FileService
from serve_apps.platform_app.files.records import STALE_S, FileAttempt, FileRecords, hold, release
from serve_apps.platform_app.files.tables import FILE_USES, FILES
from serve_apps.platform_app.store.object_ids import FILE, new_id
from serve_apps.platform_app.store.platform_database import open_database
from tests.object_store import ObjectStore
from tests.serve_apps.platform_app.conftest import stored_names
from tuneyard.core.errors import ObjectNotFoundError, RequestError, StorageError
from tuneyard.storage.sql.location import SqlLocation


@pytest.fixture
def files(sql_location: SqlLocation, tmp_path: Path) -> Iterator[FileService]:
    with contextlib.closing(open_database(sql_location)) as database:
        yield FileService(FileRecords(database, 2**20), ContentStore(str(tmp_path / "files")))


async def rows(count: int = 3) -> AsyncIterator[bytes]:
    for number in range(count):
        yield b'{"n": %d}\n' % number


async def content_of(files: FileService, owner: str, file_id: str) -> bytes:
    return b"".join([block async for block in files.blocks(await files.find(owner, file_id))])


async def test_a_part_writes_a_file_once(files: FileService, tmp_path: Path) -> None:
    file_id = new_id(FILE)
    first = await files.create("o", "batch_output", "out.jsonl", rows(), file_id=file_id)
    again = await files.create("o", "batch_output", "out.jsonl", rows(9), file_id=file_id)
    assert first == again
    assert first.id == file_id
    assert await content_of(files, "o", file_id) == b'{"n": 0}\n{"n": 1}\n{"n": 2}\n'
    location = await files.location("o", file_id)
    assert location == str(tmp_path / "files" / f"{first.content_key}.jsonl")
    (tmp_path / "metrics.csv").write_text("step,loss\n")
    csv = await files.create("o", "fine-tune-results", "step_metrics.csv", tmp_path / "metrics.csv")
    assert (await files.location("o", csv.id)).endswith(".csv")


async def test_a_part_may_write_beyond_the_space_of_a_key(files: FileService) -> None:
    async def large() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 2**20

    file = await files.create("o", "batch_output", "out.jsonl", large())
    assert file.bytes == 3 * 2**20
    with pytest.raises(RequestError, match="do not fit"):
        async with files.receive("o", size=1):
            pass


async def test_a_file_that_fails_leaves_nothing_and_can_be_written_again(files: FileService, tmp_path: Path) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        raise StorageError("the source is gone")

    file_id = new_id(FILE)
    with pytest.raises(StorageError):
        await files.create("o", "batch_output", "out.jsonl", failing(), file_id=file_id)
    with pytest.raises(ObjectNotFoundError):
        await files.find("o", file_id)
    assert stored_names(tmp_path / "files") == []
    with pytest.raises(StorageError):
        await files.create("o", "batch_output", "out.jsonl", tmp_path / "missing", file_id=file_id)
    assert (await files.create("o", "batch_output", "out.jsonl", rows(), file_id=file_id)).id == file_id


@pytest.mark.parametrize("point", ["registered", "received", "published"])
async def test_a_process_that_dies_leaves_nothing_in_the_end(files: FileService, tmp_path: Path, point: str) -> None:
    attempt = FileAttempt.of("o", new_id(FILE))
    files.records.begin(attempt, 10, is_upload=True)
    if point != "registered":
        incoming = files.content.begin(attempt.content_key)
        incoming.write(b"x" * 10)
        if point == "published":
            incoming.publish(f"{attempt.content_key}.jsonl")
    await files.delete_overdue()
    assert len(stored_names(tmp_path / "files")) == (point != "registered")  # its process may still live
    now = files.records.now()
    files.records.now = lambda: now + 2 * STALE_S
    await files.delete_overdue()
    assert stored_names(tmp_path / "files") == []
    with files.records.database.reading() as connection:
        assert connection.execute(select(FILES.c.id)).all() == []


async def test_a_process_that_was_taken_for_dead_makes_no_file(files: FileService, tmp_path: Path) -> None:
    now = files.records.now()
    with pytest.raises(RequestError, match="given up"):
        async with files.receive("o") as receiving:
            await receiving.write(b"{}")
            files.records.now = lambda: now + 2 * STALE_S
            await files.delete_overdue()
            await receiving.finish("batch", "a.jsonl", None)
    assert stored_names(tmp_path / "files") == []


async def test_of_two_processes_that_write_the_same_file_one_does(files: FileService, tmp_path: Path) -> None:
    file_id = new_id(FILE)
    async with files.receive("o", file_id=file_id, is_upload=False) as stopped:
        await stopped.write(b"first")
        async with files.receive("o", file_id=file_id, is_upload=False) as second:
            await second.write(b"second")
            written = await second.finish("batch_output", "out.jsonl", None)
        assert await stopped.finish("batch_output", "out.jsonl", None) == written
    assert await content_of(files, "o", file_id) == b"second"
    assert stored_names(tmp_path / "files") == [written.content_name]


async def test_an_attempt_that_dies_while_it_takes_over_leaves_nothing(files: FileService, tmp_path: Path) -> None:
    """The first one died after its content was there, the second one after it knew of the first."""
    first, second = (FileAttempt.of("o", "file-1") for _ in range(2))
    assert files.records.begin(first, 0, is_upload=False) is None
    files.content.begin(first.content_key).publish(f"{first.content_key}.jsonl")
    assert files.records.begin(second, 0, is_upload=False) == first.content_key
    written = await files.create("o", "batch_output", "out.jsonl", rows(), file_id="file-1")
    assert stored_names(tmp_path / "files") == [written.content_name]


async def test_a_file_that_will_never_be_finished_is_deleted_at_once(files: FileService, tmp_path: Path) -> None:
    attempt = FileAttempt.of("o", "file-1")
    files.records.begin(attempt, 0, is_upload=False)
    files.content.begin(attempt.content_key).publish(f"{attempt.content_key}.jsonl")
    await files.delete_unfinished("other", "file-1")
    assert stored_names(tmp_path / "files") != []
    await files.delete_unfinished("o", "file-1")
    assert stored_names(tmp_path / "files") == []
    await files.delete_unfinished("o", "file-1")
    finished = await files.create("o", "batch_output", "out.jsonl", rows(), file_id="file-1")
    await files.delete_unfinished("o", "file-1")
    assert await content_of(files, "o", finished.id) == b'{"n": 0}\n{"n": 1}\n{"n": 2}\n'


async def test_a_file_that_is_finished_after_all_stays(files: FileService) -> None:
    """The database finished the file, and its answer was lost."""
    async with files.receive("o") as receiving:
        await receiving.write(b"{}")
        file = await receiving.finish("batch", "a.jsonl", None)
        receiving.is_finished = False
    assert await content_of(files, "o", file.id) == b"{}"


async def test_a_deletion_that_was_cut_off_is_finished(files: FileService, tmp_path: Path) -> None:
    file = await files.create("o", "batch", "a.jsonl", rows())
    files.records.begin_deletion("o", file.id)
    with pytest.raises(ObjectNotFoundError):
        await files.find("o", file.id)
    await files.delete_overdue()
    assert stored_names(tmp_path / "files") == []


async def test_a_file_of_nobody_cannot_be_held(files: FileService) -> None:
    file = await files.create("o", "batch", "a.jsonl", rows())
    for owner, file_id in (("other", file.id), ("o", new_id(FILE)), ("o", "x\0")):
        with files.records.database.writing() as connection, pytest.raises(ObjectNotFoundError):
            hold(connection, owner, file_id, "batch_1")
    with files.records.database.writing() as connection:
        hold(connection, "o", file.id, "batch_1")
        hold(connection, "o", file.id, "batch_2")
        release(connection, "batch_1")
    with pytest.raises(RequestError, match="used by batch_2"):
        await files.delete("o", file.id)
    with files.records.database.writing() as connection:
        release(connection, "batch_2")
        assert connection.execute(select(FILE_USES)).all() == []


async def test_an_expired_file_that_is_used_can_be_read(files: FileService) -> None:
    file = await files.create("o", "batch", "a.jsonl", rows(), expires_after_s=60)
    with files.records.database.writing() as connection:
        hold(connection, "o", file.id, "batch_1")
        connection.execute(update(FILES).values(expires_at=1.0))
    await files.delete_overdue()
    assert (await content_of(files, "o", file.id)).startswith(b'{"n": 0}')


@pytest.mark.integration
async def test_files_in_an_object_store(tmp_path: Path, store: ObjectStore) -> None:
    del store  # this process' environment reaches it
    content = ContentStore("s3://bucket/platform/files")
    content.check()
    with contextlib.closing(open_database(SqlLocation(file=tmp_path / "db"))) as database:
        files = FileService(FileRecords(database, 2**30), content)
        large = b'{"n": 1}\n' * 300_000

        async def blocks() -> AsyncIterator[bytes]:
            for start in range(0, len(large), 100_000):
                yield large[start : start + 100_000]

        file = await files.create("o", "batch", "a.jsonl", blocks())
        assert await content_of(files, "o", file.id) == large
        assert await files.location("o", file.id) == f"s3://bucket/platform/files/{file.content_key}.jsonl"
        await files.delete("o", file.id)
        with pytest.raises(StorageError, match="is missing"):
            async for _ in files.blocks(file):
                pass
