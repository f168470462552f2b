"""/v1/uploads by the unmodified OpenAI SDK: parts become one file, in the order of their ids, or nothing."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import openai
import pytest
from sqlalchemy import select, update

from serve_apps.platform_app.files.tables import UPLOAD_PARTS, UPLOADS
from tests.serve_apps.platform_app.conftest import PlatformFactory, error_of, stored_names
from tests.serve_apps.platform_app.platform_under_test import PlatformUnderTest
from tuneyard.api.api_keys import KeyStore

ROWS = b'{"custom_id": "1", "body": {}}\n' * 1000
HALVES = (ROWS[:20_011], ROWS[20_011:])


@pytest.fixture
def client(make_platform: PlatformFactory) -> openai.AsyncOpenAI:
    return make_platform().sdk()


async def create(client: openai.AsyncOpenAI, size: int = len(ROWS), **options: Any) -> str:
    fields: dict[str, Any] = {"filename": "rows.jsonl", "mime_type": "text/jsonl", "purpose": "batch"}
    return (await client.uploads.create(bytes=size, **fields | options)).id


async def test_parts_become_a_file(platform: PlatformUnderTest, tmp_path: Path) -> None:
    client = platform.sdk(platform.create_key("a"))
    upload = await client.uploads.create(
        bytes=len(ROWS), filename="../rows.jsonl", mime_type="text/jsonl", purpose="batch"
    )
    assert upload.id.startswith("upload_")
    assert (upload.object, upload.status, upload.bytes, upload.file) == ("upload", "pending", len(ROWS), None)
    assert upload.expires_at - upload.created_at == 3600
    assert set(upload.model_dump()) == {
        "id", "object", "bytes", "created_at", "expires_at", "filename", "purpose", "status", "file",
    }  # fmt: skip
    second = await client.uploads.parts.create(upload.id, data=HALVES[1])
    first = await client.uploads.parts.create(upload.id, data=HALVES[0])
    unused = await client.uploads.parts.create(upload.id, data=HALVES[0])
    assert (first.object, first.upload_id, first.id[:5]) == ("upload.part", upload.id, "part_")
    md5 = hashlib.md5(ROWS).hexdigest().upper()
    done = await client.uploads.complete(upload.id, part_ids=[first.id, second.id], md5=md5)
    assert done.status == "completed"
    assert done.file is not None
    assert (done.file.filename, done.file.bytes, done.file.purpose) == ("rows.jsonl", len(ROWS), "batch")
    assert (await client.files.content(done.file.id)).content == ROWS
    assert await client.files.retrieve(done.file.id) == done.file
    assert await client.uploads.complete(upload.id, part_ids=[first.id, second.id]) == done
    await platform.reconcile()
    assert [name.partition("-")[2][:32] for name in stored_names(tmp_path / "files")] == [done.file.id[5:]]
    with pytest.raises(openai.BadRequestError, match="is completed"):
        await client.uploads.cancel(upload.id)
    with pytest.raises(openai.BadRequestError, match="is completed"):
        await client.uploads.parts.create(upload.id, data=b"{}")
    assert unused.id != first.id


async def test_the_sdk_uploads_a_large_file_in_chunks(client: openai.AsyncOpenAI, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(ROWS)
    done = await client.uploads.upload_file_chunked(
        file=tmp_path / "rows.jsonl", mime_type="text/jsonl", purpose="evals", part_size=7001
    )
    assert done.file is not None
    assert (await client.files.content(done.file.id)).content == ROWS


async def test_parts_that_are_not_the_file_are_refused(make_platform: PlatformFactory, tmp_path: Path) -> None:
    platform = make_platform()
    client = platform.sdk()
    upload, other = await create(client), await create(client, 2)
    first, second = [(await client.uploads.parts.create(upload, data=half)).id for half in HALVES]
    foreign = (await client.uploads.parts.create(other, data=b"{}")).id
    for part_ids, options, code in (
        ([first], {}, "size_mismatch"),
        ([first, second, foreign], {}, "invalid_value"),
        ([first, first], {}, "invalid_value"),
        ([first, "part_1"], {}, "invalid_value"),
        ([], {}, "invalid_value"),
        ([first, second], {"md5": "0" * 32}, "checksum_mismatch"),
        ([second, first], {}, "invalid_file_format"),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            await client.uploads.complete(upload, part_ids=part_ids, **options)  # type: ignore[arg-type]
        assert caught.value.code == code
    done = await client.uploads.complete(upload, part_ids=[first, second])
    await client.uploads.cancel(other)
    await platform.reconcile()
    assert done.file is not None
    assert [name.partition("-")[2][:32] for name in stored_names(tmp_path / "files")] == [done.file.id[5:]]


async def test_a_cancelled_upload_leaves_nothing(make_platform: PlatformFactory, tmp_path: Path) -> None:
    platform = make_platform()
    client = platform.sdk()
    upload = await create(client)
    part = await client.uploads.parts.create(upload, data=ROWS)
    assert (await client.uploads.cancel(upload)).status == "cancelled"
    assert (await client.uploads.cancel(upload)).status == "cancelled"
    for call in (client.uploads.complete(upload, part_ids=[part.id]), client.uploads.parts.create(upload, data=b"{}")):
        with pytest.raises(openai.BadRequestError, match="is cancelled"):
            await call
    await platform.reconcile()
    assert stored_names(tmp_path / "files") == []


async def test_an_upload_expires(make_platform: PlatformFactory, tmp_path: Path) -> None:
    platform = make_platform(upload_expiry_hours=1 / 3600)
    client = platform.sdk()
    upload = await create(client)
    part = await client.uploads.parts.create(upload, data=ROWS)
    await asyncio.sleep(1.1)
    for call in (client.uploads.complete(upload, part_ids=[part.id]), client.uploads.cancel(upload)):
        with pytest.raises(openai.BadRequestError, match="is expired"):
            await call
    await platform.reconcile()
    assert stored_names(tmp_path / "files") == []


async def test_two_owners_see_nothing_of_each_other(platform: PlatformUnderTest) -> None:
    mine, other = (platform.sdk(platform.create_key(name)) for name in ("a", "b"))
    upload = await create(mine)
    part = await mine.uploads.parts.create(upload, data=ROWS)
    for call in (
        other.uploads.parts.create(upload, data=b"{}"),
        other.uploads.complete(upload, part_ids=[part.id]),
        other.uploads.cancel(upload),
    ):
        with pytest.raises(openai.NotFoundError, match=f"No such Upload object: {upload}"):
            await call
    await mine.uploads.complete(upload, part_ids=[part.id])


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"size": 0}, "bytes"),
        ({"size": -1}, "bytes"),
        ({"size": 2 * 2**30}, "bytes"),
        ({"purpose": "assistants"}, "purpose"),
        ({"purpose": "batch_output"}, "purpose"),
        ({"filename": ".."}, "file"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, "expires_after.seconds"),
        ({"extra_body": {"x": 1}}, "x"),
    ],
)
async def test_a_wrong_request_is_refused(make_platform: PlatformFactory, options: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await create(make_platform(max_upload_gib=1).sdk(), **options)
    assert caught.value.param == param


async def test_parts_are_limited(make_platform: PlatformFactory, tmp_path: Path) -> None:
    platform = make_platform(keys=KeyStore(tmp_path / "keys.json"), max_part_mib=0.5, max_gib_per_key=2**-10)
    client = platform.sdk(platform.create_key("a"))
    with pytest.raises(openai.BadRequestError, match="do not fit"):
        await create(client, 2**20 + 1)
    upload = await create(client, 300_000)
    with pytest.raises(openai.APIStatusError) as caught:
        await client.uploads.parts.create(upload, data=b"x" * (2**19 + 1))
    assert error_of(caught.value)[:2] == (413, "file_too_large")
    with pytest.raises(openai.BadRequestError, match="The part is empty"):
        await client.uploads.parts.create(upload, data=b"")
    for _ in range(3):
        await client.uploads.parts.create(upload, data=b"x" * 250_000)
    with pytest.raises(openai.BadRequestError) as caught_limit:
        await client.uploads.parts.create(upload, data=b"x" * 250_000)
    assert caught_limit.value.code in ("limit_exceeded", "storage_quota_exceeded")
    assert len(stored_names(tmp_path / "files")) == 3


async def test_a_request_that_is_sent_again_creates_one_upload(client: openai.AsyncOpenAI) -> None:
    headers = {"Idempotency-Key": "k1"}
    upload = await create(client, extra_headers=headers)
    assert await create(client, extra_headers=headers) == upload
    assert await create(client, extra_headers={"Idempotency-Key": "k2"}) != upload
    with pytest.raises(openai.BadRequestError, match="another request"):
        await create(client, 7, extra_headers=headers)


async def test_a_file_from_parts_expires(client: openai.AsyncOpenAI) -> None:
    upload = await create(client, expires_after={"anchor": "created_at", "seconds": 7200})
    part = await client.uploads.parts.create(upload, data=ROWS)
    done = await client.uploads.complete(upload, part_ids=[part.id])
    assert done.file is not None
    assert done.file.expires_at is not None
    assert done.file.expires_at - done.file.created_at in (7200, 7201)


async def test_two_completions_at_once_make_one_file(make_platform: PlatformFactory, tmp_path: Path) -> None:
    platform = make_platform()
    client = platform.sdk()
    upload = await create(client)
    part = await client.uploads.parts.create(upload, data=ROWS)
    calls = (client.uploads.complete(upload, part_ids=[part.id]) for _ in range(4))
    results = await asyncio.gather(*calls, return_exceptions=True)
    done = [result for result in results if not isinstance(result, BaseException)]
    assert done
    assert len({result.file.id for result in done if result.file}) == 1
    refused = [result for result in results if isinstance(result, BaseException)]
    assert all(isinstance(e, openai.InternalServerError) and e.code == "upload_completing" for e in refused)
    await platform.reconcile()
    assert len(stored_names(tmp_path / "files")) == 1


@pytest.fixture
def dead_completion(make_platform: PlatformFactory) -> tuple[PlatformUnderTest, str, str]:
    """An application, an upload whose completion was begun by a process that died, and the id of its part."""
    platform = make_platform()
    client = platform.sdk()
    upload = asyncio.run(create(client))
    part = asyncio.run(client.uploads.parts.create(upload, data=ROWS))
    with platform.context.database.writing() as connection:
        changed = update(UPLOADS).values(state="completing", file_id="file-1", changed_at=1.0)
        connection.execute(changed.where(UPLOADS.c.id == upload))
    return platform, upload, part.id


def test_a_completion_whose_process_died_can_be_repeated(
    dead_completion: tuple[PlatformUnderTest, str, str], tmp_path: Path
) -> None:
    platform, upload, part = dead_completion
    done = asyncio.run(platform.sdk().uploads.complete(upload, part_ids=[part]))
    assert done.status == "completed"
    asyncio.run(platform.reconcile())
    assert len(stored_names(tmp_path / "files")) == 1


def test_the_reconciler_ends_a_completion_whose_process_died(
    dead_completion: tuple[PlatformUnderTest, str, str],
) -> None:
    platform, upload, _ = dead_completion
    asyncio.run(platform.reconcile())
    with platform.context.database.reading() as connection:
        row = connection.execute(select(UPLOADS.c.state, UPLOADS.c.file_id).where(UPLOADS.c.id == upload)).one()
    assert tuple(row) == ("pending", None)


async def test_a_part_whose_process_died_is_deleted(make_platform: PlatformFactory, tmp_path: Path) -> None:
    platform = make_platform()
    client = platform.sdk()
    upload = await create(client)
    await client.uploads.parts.create(upload, data=HALVES[0])
    with platform.context.database.writing() as connection:
        connection.execute(update(UPLOAD_PARTS).values(state="receiving", created_at=1.0))
    await platform.reconcile()
    assert stored_names(tmp_path / "files") == []
