"""Batches by the unmodified OpenAI SDK, over a served model with a scripted engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch, Completion
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from tests.serve_apps.api_client import ANSWER, CHAT, completion
from tests.serve_apps.conftest import ModelFactory
from tests.serve_apps.platform_app.conftest import PlatformFactory, error_of
from tests.serve_apps.platform_app.platform_under_test import PlatformUnderTest
from tests.serve_apps.platform_app.served_models import ServedModels
from tuneyard.api.api_keys import KeyStore

CHATS = "/v1/chat/completions"
BODIES: dict[str, dict[str, Any]] = {
    CHATS: CHAT,
    "/v1/completions": completion(),
    "/v1/responses": {"model": "tiny", "input": "hi"},
}


@pytest.fixture
def opened(make_platform: PlatformFactory, make_model: ModelFactory, tmp_path: Path) -> PlatformUnderTest:
    """The application with the model `tiny` and API keys."""
    models = ServedModels([make_model(ANSWER, token_interval_s=0.0005)], capacity=4)
    return make_platform(directory=models, keys=KeyStore(tmp_path / "api_keys.json"))


def rows(count: int, endpoint: str = CHATS, **body: Any) -> list[dict[str, Any]]:
    return [
        {"custom_id": f"request-{n}", "method": "POST", "url": endpoint, "body": BODIES[endpoint] | body}
        for n in range(count)
    ]


async def upload(client: openai.AsyncOpenAI, lines: Sequence[Any], purpose: Any = "batch") -> str:
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return (await client.files.create(file=("requests.jsonl", content), purpose=purpose)).id


async def create(client: openai.AsyncOpenAI, lines: Sequence[Any], endpoint: Any = CHATS, **more: Any) -> Batch:
    file_id = await upload(client, lines)
    return await client.batches.create(input_file_id=file_id, endpoint=endpoint, completion_window="24h", **more)


async def wait_for(platform: PlatformUnderTest, client: openai.AsyncOpenAI, batch_id: str) -> Batch:
    """The batch at its end."""
    async with asyncio.timeout(20):
        while True:
            await platform.reconcile()
            batch = await client.batches.retrieve(batch_id)
            if batch.status in ("completed", "failed", "cancelled", "expired"):
                return batch
            await asyncio.sleep(0.01)


async def read(client: openai.AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    text = (await client.files.content(file_id)).text
    return [json.loads(line) for line in text.splitlines()]


def reasoning_tokens(answer: Any) -> int:
    usage = answer.usage
    details = usage.output_tokens_details if hasattr(usage, "output_tokens") else usage.completion_tokens_details
    return details.reasoning_tokens if details is not None else 0


@pytest.mark.parametrize(
    ("endpoint", "answer"), [(CHATS, ChatCompletion), ("/v1/completions", Completion), ("/v1/responses", Response)]
)
async def test_each_endpoint_answers_a_batch(opened: PlatformUnderTest, endpoint: str, answer: Any) -> None:
    client = opened.sdk(opened.create_key("k"))
    wrong = rows(1, endpoint, temperature="hot")[0] | {"custom_id": "wrong"}
    metadata = {"customer_id": "user_123456789", "batch_description": "Nightly eval job"}
    batch = await create(client, [*rows(30, endpoint), wrong], endpoint, metadata=metadata)
    assert (batch.status, batch.metadata, batch.model) == ("validating", metadata, None)
    batch = await wait_for(opened, client, batch.id)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 31, "completed": 30, "failed": 1}
    outputs = await read(client, batch.output_file_id)
    assert {line["custom_id"] for line in outputs} == {f"request-{n}" for n in range(30)}
    bodies = [answer.model_validate(line["response"]["body"]) for line in outputs]
    assert all(line["response"]["status_code"] == 200 and line["error"] is None for line in outputs)
    assert all(body.model == "tiny" for body in bodies)
    assert batch.usage is not None
    assert batch.usage.total_tokens == sum(body.usage.total_tokens for body in bodies)
    assert batch.usage.output_tokens_details.reasoning_tokens == sum(map(reasoning_tokens, bodies))
    (error,) = await read(client, batch.error_file_id)
    assert (error["custom_id"], error["response"]["status_code"]) == ("wrong", 400)
    assert error["response"]["body"]["error"]["param"] == "temperature"
    file = await client.files.retrieve(batch.output_file_id or "")
    assert (file.purpose, file.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    await client.files.delete(batch.input_file_id)


async def test_the_objects_are_openais(opened: PlatformUnderTest) -> None:
    """The fields of OpenAI's published example, and all of the SDK's types, strictly."""
    secret = opened.create_key("k")
    client = opened.sdk(secret)
    batch = await create(client, rows(2), output_expires_after={"anchor": "created_at", "seconds": 3600})
    done = await wait_for(opened, client, batch.id)
    file = await client.files.retrieve(done.output_file_id or "")
    assert file.expires_at == file.created_at + 3600
    async with opened.http(secret) as http:
        raw = (await http.get(f"/v1/batches/{batch.id}")).json()
        listed = (await http.get("/v1/batches", params={"limit": 1})).json()
    assert set(raw) == set(Batch.model_fields)
    assert Batch.model_validate(raw, strict=True).object == "batch"
    assert raw["expires_at"] == raw["created_at"] + 86_400
    assert raw["in_progress_at"] <= raw["finalizing_at"] <= raw["completed_at"]
    assert listed == {"object": "list", "data": [raw], "first_id": batch.id, "last_id": batch.id, "has_more": False}


async def test_a_wrong_file_is_explained_by_line(opened: PlatformUnderTest) -> None:
    client = opened.sdk(opened.create_key("k"))
    lines = rows(3)
    lines[1]["url"] = "/v1/completions"
    lines[2]["custom_id"] = lines[0]["custom_id"]
    batch = await wait_for(opened, client, (await create(client, lines)).id)
    assert batch.status == "failed"
    assert batch.errors is not None
    found = [(error.code, error.line, error.param) for error in batch.errors.data or []]
    assert found == [("mismatched_url", 2, "url"), ("duplicate_custom_id", 3, "custom_id")]
    unknown = await wait_for(opened, client, (await create(client, rows(1, model="gpt-4o"))).id)
    assert unknown.errors is not None
    assert [error.code for error in unknown.errors.data or []] == ["model_not_found"]


async def test_what_cannot_be_a_batch_is_refused_at_once(opened: PlatformUnderTest) -> None:
    client = opened.sdk(opened.create_key("k"))
    file_id = await upload(client, rows(1))
    chats = [{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello"}]}] * 10
    training = await upload(client, chats, "fine-tune")
    wanted = {"input_file_id": file_id, "endpoint": CHATS, "completion_window": "24h"}
    for change, error in (
        ({"input_file_id": "file-unknown"}, (404, "not_found", "id")),
        ({"input_file_id": training}, (400, "invalid_purpose", "input_file_id")),
        ({"endpoint": "/v1/embeddings"}, (400, "unsupported", "endpoint")),
        ({"endpoint": "/v1/nothing"}, (400, "invalid_value", "endpoint")),
        ({"completion_window": "1h"}, (400, "invalid_value", "completion_window")),
        ({"metadata": {"k": "x" * 513}}, (400, "invalid_value", "metadata.k")),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 60}},
            (400, "invalid_value", "output_expires_after.seconds"),
        ),
    ):
        with pytest.raises(openai.APIStatusError) as refused:
            await client.batches.create(**(wanted | change))  # type: ignore[arg-type]
        assert error_of(refused.value) == error
    assert (await client.batches.list()).data == []


async def test_pages_are_read_to_the_end(opened: PlatformUnderTest) -> None:
    client = opened.sdk(opened.create_key("k"))
    file_id = await upload(client, rows(1))
    ids = []
    for _ in range(5):
        batch = await client.batches.create(input_file_id=file_id, endpoint=CHATS, completion_window="24h")
        ids.append(batch.id)
    assert [batch.id async for batch in client.batches.list(limit=2)] == ids[::-1]
    page = await client.batches.list(limit=2, after=ids[3])
    assert ([batch.id for batch in page.data], page.has_more) == ([ids[2], ids[1]], True)


async def test_a_repeated_request_creates_one_batch(opened: PlatformUnderTest) -> None:
    client = opened.sdk(opened.create_key("k"))
    file_id = await upload(client, rows(1))
    wanted: Any = {"input_file_id": file_id, "endpoint": CHATS, "completion_window": "24h"}
    header = {"Idempotency-Key": "one"}
    first, second = [await client.batches.create(**wanted, extra_headers=header) for _ in range(2)]
    assert first.id == second.id
    with pytest.raises(openai.BadRequestError):
        await client.batches.create(**wanted, metadata={"a": "b"}, extra_headers=header)
    assert len((await client.batches.list()).data) == 1


async def test_two_tenants_see_nothing_of_each_other(opened: PlatformUnderTest) -> None:
    mine, theirs = (opened.sdk(opened.create_key(name)) for name in ("mine", "theirs"))
    batch = await wait_for(opened, mine, (await create(mine, rows(2))).id)
    other = await create(theirs, rows(2))
    assert [b.id for b in (await mine.batches.list()).data] == [batch.id]
    assert [b.id for b in (await theirs.batches.list(after=batch.id)).data] == []
    for client, foreign in ((theirs, batch), (mine, other)):
        for call in (client.batches.retrieve, client.batches.cancel):
            with pytest.raises(openai.NotFoundError):
                await call(foreign.id)
        with pytest.raises(openai.NotFoundError):
            await client.batches.create(input_file_id=foreign.input_file_id, endpoint=CHATS, completion_window="24h")
    with pytest.raises(openai.NotFoundError):
        await theirs.files.content(batch.output_file_id or "")
    with pytest.raises(openai.AuthenticationError):
        await opened.sdk("ty-wrong").batches.list()


async def test_cancelling_leaves_what_was_answered(make_platform: PlatformFactory, make_model: ModelFactory) -> None:
    platform = make_platform(directory=ServedModels([make_model(ANSWER, token_interval_s=0.01)], capacity=2))
    client = platform.sdk()
    batch = await create(client, rows(200))
    async with asyncio.timeout(20):
        while not batch.request_counts or not batch.request_counts.completed:
            await platform.reconcile()
            await asyncio.sleep(0.05)
            batch = await client.batches.retrieve(batch.id)
    assert batch.status == "in_progress"
    assert (await client.batches.cancel(batch.id)).status == "cancelling"
    batch = await wait_for(platform, client, batch.id)
    assert (batch.status, batch.request_counts is not None) == ("cancelled", True)
    outputs, errors = await read(client, batch.output_file_id), await read(client, batch.error_file_id)
    assert outputs
    assert {line["error"]["code"] for line in errors} == {"batch_cancelled"}
    assert sorted(line["custom_id"] for line in (*outputs, *errors)) == sorted(f"request-{n}" for n in range(200))
    with pytest.raises(openai.APIStatusError, match="Cannot cancel a batch with status 'cancelled'"):
        await client.batches.cancel(batch.id)


async def test_a_key_has_so_many_batches_at_a_time(make_platform: PlatformFactory, make_model: ModelFactory) -> None:
    platform = make_platform(directory=ServedModels([make_model(ANSWER)]), batches={"max_active_per_key": 2})
    client = platform.sdk()
    first, _ = [await create(client, rows(1)) for _ in range(2)]
    with pytest.raises(openai.RateLimitError, match="has 2 batches that have not ended; its limit is 2"):
        await create(client, rows(1))
    await wait_for(platform, client, first.id)
    await create(client, rows(1))


async def test_live_requests_are_answered_while_a_batch_fills_the_model(opened: PlatformUnderTest) -> None:
    client = opened.sdk(opened.create_key("k"))
    batch = await create(client, rows(120))
    finishing = asyncio.create_task(wait_for(opened, client, batch.id))
    await asyncio.sleep(0.3)
    for _ in range(5):
        live = await client.chat.completions.create(**CHAT)
        assert live.choices[0].finish_reason == "stop"
    batch = await finishing
    assert batch.request_counts is not None
    assert batch.request_counts.completed == 120
