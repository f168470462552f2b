"""/v1/files by the unmodified OpenAI SDK: what is uploaded is there, for its owner only, until it is deleted."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import openai
import pytest

from serve_apps.platform_app.files.records import hold, release
from tests.serve_apps.platform_app.conftest import PlatformFactory, error_of, stored_names
from tests.serve_apps.platform_app.platform_under_test import PlatformUnderTest

CHATS = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}\n' * 3
BATCH = b'{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {}}\n'


async def test_a_file_is_stored_listed_read_and_deleted(platform: PlatformUnderTest, tmp_path: Path) -> None:
    client = platform.sdk(platform.create_key("a"))
    (tmp_path / "chats.jsonl").write_bytes(CHATS)
    created = await client.files.create(file=tmp_path / "chats.jsonl", purpose="fine-tune")
    assert created.id.startswith("file-")
    assert (created.object, created.bytes, created.filename) == ("file", len(CHATS), "chats.jsonl")
    assert (created.purpose, created.status, created.expires_at) == ("fine-tune", "processed", None)
    assert created.model_extra == {"sha256": hashlib.sha256(CHATS).hexdigest()}
    assert await client.files.retrieve(created.id) == created
    assert (await client.files.content(created.id)).content == CHATS
    assert [file.id async for file in client.files.list()] == [created.id]
    assert (await client.files.wait_for_processing(created.id)).status == "processed"
    deleted = await client.files.delete(created.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (created.id, True, "file")
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match=f"No such File object: {created.id}"):
            await call(created.id)
    assert stored_names(tmp_path / "files") == []


async def test_every_object_has_the_fields_of_openai(platform: PlatformUnderTest) -> None:
    async with platform.http(platform.create_key("a")) as http:
        created = (await http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("b.jsonl", BATCH)})).json()
        listed = (await http.get("/v1/files")).json()
    openai_fields = {"id", "object", "bytes", "created_at", "expires_at", "filename", "purpose", "status"}
    assert set(created) == openai_fields | {"status_details", "sha256"}
    assert listed == {
        "object": "list",
        "data": [created],
        "first_id": created["id"],
        "last_id": created["id"],
        "has_more": False,
    }


async def test_a_list_has_pages_orders_and_purposes(platform: PlatformUnderTest) -> None:
    client = platform.sdk(platform.create_key("a"))
    ids = [(await client.files.create(file=(f"{n}.jsonl", BATCH), purpose="batch")).id for n in range(5)]
    evals = (await client.files.create(file=("e.jsonl", b'{"item": 1}'), purpose="evals")).id
    assert [file.id async for file in client.files.list(limit=2)] == [evals, *reversed(ids)]
    assert [file.id async for file in client.files.list(limit=2, order="asc", purpose="batch")] == ids
    assert [file.id async for file in client.files.list(after=ids[2], order="asc", purpose="batch")] == ids[3:]
    assert [file.id async for file in client.files.list(purpose="unknown")] == []
    for options in ({"limit": 10_001}, {"limit": 0}, {"after": "file-x"}, {"order": "up"}):
        with pytest.raises(openai.BadRequestError) as caught:
            await client.files.list(**options)
        assert caught.value.param in options


async def test_two_owners_see_nothing_of_each_other(platform: PlatformUnderTest) -> None:
    mine, other = (platform.sdk(platform.create_key(name)) for name in ("a", "b"))
    file = await mine.files.create(file=("a.jsonl", BATCH), purpose="batch")
    assert [f.id async for f in other.files.list()] == []
    for call in (other.files.retrieve, other.files.content, other.files.delete):
        with pytest.raises(openai.NotFoundError) as caught:
            await call(file.id)
        unknown = file.id[:-1] + ("0" if file.id[-1] != "0" else "1")
        with pytest.raises(openai.NotFoundError) as missing:
            await call(unknown)
        assert str(caught.value).replace(file.id, "") == str(missing.value).replace(unknown, "")
    assert (await mine.files.retrieve(file.id)).id == file.id


async def test_every_route_needs_a_key(platform: PlatformUnderTest, tmp_path: Path) -> None:
    async with platform.http() as http:
        for method, path in (
            ("GET", "/v1/files"),
            ("GET", "/v1/files/file-1"),
            ("GET", "/v1/files/file-1/content"),
            ("DELETE", "/v1/files/file-1"),
        ):
            assert (await http.request(method, path)).status_code == 401
        refused = await http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("b.jsonl", BATCH)})
        assert refused.status_code == 401
    assert stored_names(tmp_path / "files") == []


@pytest.mark.parametrize(
    ("purpose", "message"),
    [
        ("assistants", "an API that this server does not have"),
        ("vision", "an API that this server does not have"),
        ("user_data", "an API that this server does not have"),
        ("fine-tune-results", "only the server writes"),
        ("batch_output", "only the server writes"),
        ("x", "'x' is no purpose"),
        ("", "'' is no purpose"),
    ],
)
async def test_a_wrong_purpose_is_named(
    make_platform: PlatformFactory, tmp_path: Path, purpose: Any, message: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        await make_platform().sdk().files.create(file=("a.jsonl", BATCH), purpose=purpose)
    assert caught.value.param == "purpose"
    assert stored_names(tmp_path / "files") == []


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"\n \n", "empty_file"),
        (b"[1]\n", "invalid_file_format"),
        (b'{"a": 1}\nnot json\n', "invalid_file_format"),
        (b'{"a": 1}\n{"b": \xff}\n', "invalid_file_format"),
        (b"\x1f\x8b\x08\x00" + b"\0" * 100, "invalid_file_format"),  # gzip: a zip bomb is no JSONL
        (b"PAR1" + b"\0" * 2_000_000, "invalid_file_format"),
        (b"[" * 500_000, "invalid_file_format"),
    ],
)
async def test_a_file_that_is_not_jsonl_is_refused(
    make_platform: PlatformFactory, tmp_path: Path, content: bytes, code: str
) -> None:
    for purpose in ("fine-tune", "batch", "evals"):
        with pytest.raises(openai.BadRequestError) as caught:
            await make_platform().sdk().files.create(file=("a.jsonl", content), purpose=purpose)
        assert error_of(caught.value) == (400, code, "file")
    assert stored_names(tmp_path / "files") == []


async def test_a_line_of_many_megabytes_is_refused(make_platform: PlatformFactory, tmp_path: Path) -> None:
    content = b'{"a": 1}\n{"b": "' + b"x" * (18 * 2**20) + b'"}\n'
    with pytest.raises(openai.BadRequestError, match="a line has 1"):
        await make_platform().sdk().files.create(file=("a.jsonl", content), purpose="batch")
    assert stored_names(tmp_path / "files") == []


async def test_wrong_rows_of_a_fine_tune_file_are_told(make_platform: PlatformFactory) -> None:
    client = make_platform().sdk()
    wrong = CHATS + b'{"messages": [{"role": "user", "content": "hi"}]}\n{"messages": []}\n'
    file = await client.files.create(file=("../../my chats.jsonl", wrong), purpose="fine-tune")
    assert (file.filename, file.status) == ("my chats.jsonl", "error")
    assert file.status_details is not None
    assert file.status_details.startswith("my chats.jsonl:4: ")
    assert "/tmp" not in file.status_details
    pairs = {
        "input": {"messages": [{"role": "user", "content": "hi"}]},
        "preferred_output": [{"role": "assistant", "content": "a"}],
        "non_preferred_output": [{"role": "assistant", "content": "b"}],
    }
    file = await client.files.create(file=("p.jsonl", json.dumps(pairs).encode()), purpose="fine-tune")
    assert (file.status, file.status_details) == ("processed", None)
    assert (await client.files.create(file=("e.jsonl", wrong), purpose="evals")).status == "processed"


@pytest.mark.parametrize(
    ("given_name", "shown"),
    [
        ("../../../etc/passwd", "passwd"),
        ("C:\\data\\chats.jsonl", "chats.jsonl"),
        ("a\nb\x00.jsonl", "ab.jsonl"),
        ("ünïcode 文件.jsonl", "ünïcode 文件.jsonl"),
        ("a" * 250 + ".json", "a" * 250 + ".json"),
        ("-rf", "-rf"),
    ],
)
async def test_a_name_is_only_a_name(
    make_platform: PlatformFactory, tmp_path: Path, given_name: str, shown: str
) -> None:
    client = make_platform().sdk()
    raw = given_name.encode().replace(b"\n", b"").replace(b"\x00", b"")
    file = await client.files.create(file=(raw.decode(), BATCH), purpose="batch")
    assert file.filename == shown
    content = await client.files.content(file.id)
    assert content.response.headers["x-content-type-options"] == "nosniff"
    assert content.response.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")
    (name,) = stored_names(tmp_path / "files")
    assert re.fullmatch(rf"{file.id}-[0-9a-f]{{8}}\.jsonl", name)


@pytest.mark.parametrize("name", ["", "..", ".", "/", "a" * 256])
async def test_a_name_that_is_none_is_refused(make_platform: PlatformFactory, name: str) -> None:
    async with make_platform().http() as http:
        body = f'--cut\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n{{}}\r\n'
        body += '--cut\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--cut--\r\n'
        headers = {"Content-Type": "multipart/form-data; boundary=cut"}
        answer = await http.post("/v1/files", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")


async def test_a_file_expires(make_platform: PlatformFactory, tmp_path: Path) -> None:
    platform = make_platform()
    client = platform.sdk()
    expiry: Any = {"anchor": "created_at", "seconds": 3600}
    file = await client.files.create(file=("a.jsonl", BATCH), purpose="batch", expires_after=expiry)
    assert file.expires_at is not None
    assert file.expires_at - file.created_at in (3600, 3601)
    used = await client.files.create(file=("b.jsonl", BATCH), purpose="batch", expires_after=expiry)
    records = platform.context.files.records
    with records.database.writing() as connection:
        hold(connection, "", used.id, "batch_1")
    real_now = records.now
    records.now = lambda: real_now() + 3601
    assert [f.id async for f in client.files.list()] == [used.id]
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(file.id)
    await platform.reconcile()
    (name,) = stored_names(tmp_path / "files")
    assert name.startswith(used.id)
    with records.database.writing() as connection:
        release(connection, "batch_1")
    await platform.reconcile()
    assert stored_names(tmp_path / "files") == []


@pytest.mark.parametrize(
    "expiry",
    [
        {"anchor": "created_at", "seconds": 3599},
        {"anchor": "created_at", "seconds": 2_592_001},
        {"anchor": "last_used_at", "seconds": 3600},
        {"anchor": "created_at"},
        {"seconds": 3600},
        {"anchor": "created_at", "seconds": "1e4"},
        {"anchor": "created_at", "seconds": "9" * 5000},
    ],
)
async def test_a_wrong_expiry_is_refused(make_platform: PlatformFactory, expiry: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await make_platform().sdk().files.create(file=("a.jsonl", BATCH), purpose="batch", expires_after=expiry)
    assert (caught.value.param or "").startswith("expires_after")


async def test_a_file_in_use_is_not_deleted(platform: PlatformUnderTest) -> None:
    secret = platform.create_key("a")
    client, records = platform.sdk(secret), platform.context.files.records
    file = await client.files.create(file=("a.jsonl", BATCH), purpose="batch")
    assert platform.keys is not None
    owner = platform.keys.list_keys()[0].sha256
    with records.database.writing() as connection:
        hold(connection, owner, file.id, "batch_7")
        hold(connection, owner, file.id, "batch_7")
    with pytest.raises(openai.BadRequestError, match="used by batch_7") as caught:
        await client.files.delete(file.id)
    assert caught.value.code == "file_in_use"
    with records.database.writing() as connection:
        release(connection, "batch_7")
    await client.files.delete(file.id)
