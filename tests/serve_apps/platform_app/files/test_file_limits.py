"""What an upload may not be: too large, too slow, cut off, from another site; and a server whose storage fails."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from sqlalchemy import select

from serve_apps.platform_app.files.tables import FILES
from tests.serve_apps.platform_app.conftest import PlatformFactory, stored_names
from tests.serve_apps.platform_app.platform_under_test import PlatformUnderTest
from tuneyard.api.api_keys import KeyStore

BATCH = b'{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {}}\n'


async def test_a_file_is_as_large_as_its_limit_and_no_larger(make_platform: PlatformFactory, tmp_path: Path) -> None:
    client = make_platform(max_file_mib=1).sdk()
    row = b'{"a": "' + b"x" * 1000 + b'"}\n'
    whole = (row * (2**20 // len(row))).ljust(2**20, b" ")
    assert (await client.files.create(file=("a.jsonl", whole), purpose="batch")).bytes == 2**20
    for content in (whole + b" ", whole * 4):
        with pytest.raises(openai.APIStatusError, match="larger than 1,048,576 bytes") as caught:
            await client.files.create(file=("a.jsonl", content), purpose="batch")
        assert (caught.value.status_code, caught.value.code) == (413, "file_too_large")
    assert len(stored_names(tmp_path / "files")) == 1


async def test_a_body_without_a_length_is_limited_too(make_platform: PlatformFactory, tmp_path: Path) -> None:
    async def endless() -> Any:
        yield b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        while True:
            yield b"x" * 65_536

    async def endless_end() -> Any:
        yield b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n{}\r\n--cut--\r\n'
        while True:
            yield b"x" * 65_536

    headers = {"Content-Type": "multipart/form-data; boundary=cut"}
    async with make_platform(max_file_mib=2).http() as http:
        for body in (endless(), endless_end()):
            answer = await http.post("/v1/files", content=body, headers=headers)
            assert answer.status_code == 413
    assert stored_names(tmp_path / "files") == []


async def test_the_space_of_a_key_is_limited(platform_with_quota: PlatformUnderTest, tmp_path: Path) -> None:
    platform = platform_with_quota
    mine, other = (platform.sdk(platform.create_key(name)) for name in ("a", "b"))
    content = b'{"a": 1}\n' * 40_000
    first = await mine.files.create(file=("a.jsonl", content), purpose="batch")
    await mine.files.create(file=("a.jsonl", content), purpose="batch")
    with pytest.raises(openai.BadRequestError, match="do not fit") as caught:
        await mine.files.create(file=("a.jsonl", content), purpose="batch")
    assert caught.value.code == "storage_quota_exceeded"
    await other.files.create(file=("a.jsonl", content), purpose="batch")
    await mine.files.delete(first.id)
    await mine.files.create(file=("a.jsonl", content), purpose="batch")
    assert len(stored_names(tmp_path / "files")) == 3


@pytest.fixture
def platform_with_quota(make_platform: PlatformFactory, tmp_path: Path) -> PlatformUnderTest:
    return make_platform(keys=KeyStore(tmp_path / "api_keys.json"), max_gib_per_key=2**-10)


@pytest.mark.parametrize("end", ["disconnect", "cancel", "half a form"])
async def test_a_body_that_breaks_off_leaves_nothing(make_platform: PlatformFactory, tmp_path: Path, end: str) -> None:
    platform, has_begun, answer = make_platform(), asyncio.Event(), []
    pieces = [b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n', *[b"x" * 2**20] * 3]

    async def receive() -> Any:
        if pieces:
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces) or end != "half a form"}
        await asyncio.sleep(0.05)
        assert stored_names(tmp_path / "files") != []
        has_begun.set()
        await asyncio.sleep(0 if end == "disconnect" else 60)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        answer.append(message)

    headers = [(b"host", b"test"), (b"content-type", b"multipart/form-data; boundary=cut"), (b"content-length", b"9")]
    scope = {"type": "http", "method": "POST", "path": "/v1/files", "headers": headers, "query_string": b""}
    request = asyncio.create_task(platform.api(scope | {"http_version": "1.1", "scheme": "http"}, receive, send))
    if end == "cancel":
        await has_begun.wait()
        request.cancel()
    await asyncio.wait([request])
    assert request.cancelled() == (end == "cancel")
    if end == "half a form":
        assert answer[0]["status"] == 400
    assert stored_names(tmp_path / "files") == []
    with platform.context.database.reading() as connection:
        assert connection.execute(select(FILES.c.id)).all() == []


async def test_a_slow_body_is_given_up(make_platform: PlatformFactory, tmp_path: Path) -> None:
    async def slow() -> Any:
        yield b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(100):
            await asyncio.sleep(0.02)
            yield b"x"

    platform = make_platform(http={"limits": {"body_timeout_s": 0.2}})
    headers = {"Content-Type": "multipart/form-data; boundary=cut"}
    async with platform.http() as http:
        answer = await http.post("/v1/files", content=slow(), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "body_timeout")
    assert stored_names(tmp_path / "files") == []


async def test_only_forms_are_taken_and_no_page_of_another_site(make_platform: PlatformFactory) -> None:
    platform = make_platform()
    form: dict[str, Any] = {"data": {"purpose": "batch"}, "files": {"file": ("b.jsonl", BATCH)}}
    async with platform.http() as http:
        assert (await http.post("/v1/files", json={"purpose": "batch"})).status_code == 415
        assert (await http.post("/v1/uploads", **form)).status_code == 415
        for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            assert (await http.post("/v1/files", **form, headers=headers)).status_code == 403
        assert (await http.post("/v1/files", **form, headers={"Content-Encoding": "gzip"})).status_code == 415
        own = {"Origin": "http://test", "Sec-Fetch-Site": "same-origin"}
        assert (await http.post("/v1/files", **form, headers=own)).status_code == 200


async def test_uploads_at_the_same_time_are_limited(make_platform: PlatformFactory) -> None:
    platform, is_in, may_end = make_platform(max_concurrent_uploads=1), asyncio.Event(), asyncio.Event()

    async def waiting() -> Any:
        yield b'--cut\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        is_in.set()
        await may_end.wait()
        yield b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n{}\r\n--cut--\r\n'

    headers = {"Content-Type": "multipart/form-data; boundary=cut"}
    async with platform.http() as http:
        first = asyncio.create_task(http.post("/v1/files", content=waiting(), headers=headers))
        await is_in.wait()
        client = platform.sdk()
        with pytest.raises(openai.InternalServerError) as caught:
            await client.files.create(file=("a.jsonl", BATCH), purpose="batch")
        assert (caught.value.status_code, caught.value.response.headers["retry-after"]) == (503, "1")
        may_end.set()
        assert (await first).status_code == 200
        await client.files.create(file=("a.jsonl", BATCH), purpose="batch")


async def test_the_content_is_the_bytes_that_were_sent(make_platform: PlatformFactory) -> None:
    client = make_platform().sdk()
    content = b"".join(b'{"n": %d, "t": "\xe2\x80\xa8\\r"}\r\n' % n for n in range(100_000))
    file = await client.files.create(file=("a.jsonl", io.BytesIO(content)), purpose="evals")
    answer = await client.files.content(file.id)
    assert answer.content == content
    assert answer.response.headers["content-length"] == str(len(content))


async def test_a_missing_content_is_an_error_of_the_server(make_platform: PlatformFactory, tmp_path: Path) -> None:
    client = make_platform().sdk()
    file = await client.files.create(file=("a.jsonl", BATCH), purpose="batch")
    (tmp_path / "files" / stored_names(tmp_path / "files")[0]).unlink()
    with pytest.raises(openai.InternalServerError) as caught:
        await client.files.content(file.id)
    assert (caught.value.status_code, caught.value.code) == (503, "storage_unavailable")
    assert str(tmp_path) not in str(caught.value)


async def test_a_disk_that_cannot_be_written_is_an_error_of_the_server(
    make_platform: PlatformFactory, tmp_path: Path
) -> None:
    platform = make_platform()
    (tmp_path / "files").write_text("a file where the folder should be")
    with pytest.raises(openai.InternalServerError) as caught:
        await platform.sdk().files.create(file=("a.jsonl", BATCH), purpose="batch")
    assert (caught.value.status_code, caught.value.code) == (503, "storage_unavailable")
    assert isinstance(caught.value.response, httpx.Response)
