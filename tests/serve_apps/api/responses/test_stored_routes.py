"""Stored responses over HTTP: continued, read, cancelled and deleted, each key its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_apps.api.chat import ChatService
from serve_apps.api.responses.service import ResponsesService
from serve_apps.api.responses.store import ResponseStore, StoredItem
from serve_apps.api.responses.stored_responses import StoredResponses
from serve_apps.api.routes import ApiOptions, create_api
from serve_apps.engines.engine import OPTIONS
from serve_apps.generation.served_model import ServedModel
from serve_apps.keys.key_gate import KeyGate
from tests.postgresql_server import PostgresqlServer
from tests.serve_apps.api.responses.test_routes import CALL, REQUEST, TOOL, stream
from tests.serve_apps.api_client import ANSWER, THOUGHT, post
from tests.serve_apps.conftest import ModelFactory
from tuneyard.api.api_keys import KeyStore
from tuneyard.api.wire.responses.events import LifecycleEvent
from tuneyard.api.wire.responses.request import ResponsesRequest
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.core.errors import StoreUnavailableError
from tuneyard.core.ports import free_port
from tuneyard.storage.sql.location import SqlLocation

StoreOpener = Callable[..., ResponseStore]


@pytest.fixture
def open_store(sql_location: SqlLocation) -> Iterator[StoreOpener]:
    """Opens a store in a new database, in SQLite and in PostgreSQL; the class may be given."""
    with contextlib.ExitStack() as stack:

        def open_one(kind: type[ResponseStore] = ResponseStore) -> ResponseStore:
            store = kind(sql_location, max_age_s=3600, max_bytes_per_owner=2**20)
            return stack.enter_context(contextlib.closing(store))

        yield open_one


def storing_client(model: ServedModel, store: ResponseStore) -> httpx.AsyncClient:
    api = create_api(model, ApiOptions(stored_responses=StoredResponses(store)))
    return httpx.AsyncClient(transport=httpx.ASGITransport(api, raise_app_exceptions=False), base_url="http://test")


async def test_a_stored_response_is_continued_read_and_deleted(
    make_model: ModelFactory, open_store: StoreOpener
) -> None:
    async with storing_client(make_model(CALL, ANSWER, options=OPTIONS), open_store()) as client:
        first = await post(client, "/v1/responses", REQUEST | {"tools": [TOOL]})
        assert first["store"]
        call = first["output"][1]
        result = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
        body = {"model": "tiny", "tools": [TOOL], "previous_response_id": first["id"], "input": [result]}
        events = await stream(client, body)
        second = events[-1]["response"]
        whole = [{"role": "user", "content": "hi"}, *first["output"], result]
        again = await post(client, "/v1/responses", REQUEST | {"tools": [TOOL], "input": whole, "store": False})
        assert second["usage"]["input_tokens"] == again["usage"]["input_tokens"]

        assert (await client.get(f"/v1/responses/{second['id']}")).json() == second
        assert (await client.get(f"/v1/responses/{again['id']}")).status_code == 404
        page = (await client.get(f"/v1/responses/{second['id']}/input_items?order=asc&limit=2")).json()
        assert ([item["type"] for item in page["data"]], page["has_more"]) == (["message", "reasoning"], True)
        rest = (await client.get(f"/v1/responses/{second['id']}/input_items?order=asc&after={page['last_id']}")).json()
        assert [item["type"] for item in rest["data"]] == ["function_call", "function_call_output"]
        wrong = await client.get(f"/v1/responses/{second['id']}/input_items?limit=1000")
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "limit")

        references = [{"type": "item_reference", "id": item["id"]} for item in first["output"]]
        referring = {"input": [{"role": "user", "content": "hi"}, *references, result], "tools": [TOOL]}
        third = await post(client, "/v1/responses", REQUEST | referring)
        assert third["usage"]["input_tokens"] == again["usage"]["input_tokens"]

        assert (await client.delete(f"/v1/responses/{first['id']}")).json()["deleted"]
        gone = await client.post("/v1/responses", json=body)
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "previous_response_not_found")
        assert (await post(client, "/v1/responses", body | {"previous_response_id": second["id"], "input": "and?"}))[
            "id"
        ]


async def test_cancel_ends_a_response_that_is_being_answered(make_model: ModelFactory, open_store: StoreOpener) -> None:
    model = make_model(THOUGHT + "<|channel|>final<|message|>" + "long " * 400, token_interval_s=0.05)
    store = StoredResponses(open_store())
    service = ResponsesService(model, ChatService(model), store)
    events = await service.open_stream(ResponsesRequest.parse(REQUEST))
    seen = [await anext(events)]
    assert isinstance(seen[0], LifecycleEvent)
    response_id = seen[0].response.id
    assert (await store.retrieve("", response_id))["status"] == "in_progress"
    assert (await store.cancel("", response_id))["status"] == "cancelled"
    seen += [event async for event in events]
    await events.aclose()
    assert isinstance(seen[-1], LifecycleEvent)
    assert (seen[-1].type, seen[-1].response.status) == ("response.incomplete", "cancelled")
    assert (await store.retrieve("", response_id))["status"] == "cancelled"
    assert (await store.cancel("", response_id))["status"] == "cancelled"


async def test_a_client_that_leaves_is_stored_as_cancelled(make_model: ModelFactory, open_store: StoreOpener) -> None:
    model = make_model(ANSWER, token_interval_s=0.05)
    store = StoredResponses(open_store())
    events = await ResponsesService(model, ChatService(model), store).open_stream(ResponsesRequest.parse(REQUEST))
    first = await anext(events)
    await events.aclose()
    assert isinstance(first, LifecycleEvent)
    for _ in range(200):
        if (status := (await store.retrieve("", first.response.id))["status"]) != "in_progress":
            break
        await asyncio.sleep(0.05)
    assert status == "cancelled"
    assert model.engine.stats().requests == 0


async def test_a_client_that_leaves_while_the_response_is_stored_leaves_it_cancelled(
    make_model: ModelFactory, open_store: StoreOpener
) -> None:
    entered, may_go_on = threading.Event(), threading.Event()

    class SlowStore(ResponseStore):
        response_id = ""

        def begin(self, owner: str, response: dict[str, Any], *rest: Any) -> None:
            self.response_id = response["id"]
            entered.set()
            assert may_go_on.wait(60)
            super().begin(owner, response, *rest)

    model = make_model(ANSWER)
    store = open_store(SlowStore)
    service = ResponsesService(model, ChatService(model), StoredResponses(store))
    answering = asyncio.create_task(service.complete(ResponsesRequest.parse(REQUEST)))
    assert await asyncio.to_thread(entered.wait, 60)
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    may_go_on.set()
    for _ in range(200):
        found = store.find("", store.response_id)
        if found is not None and found.is_final:
            break
        await asyncio.sleep(0.05)
    assert found is not None
    assert found.content["status"] == "cancelled"


async def test_an_error_of_the_store_does_not_end_the_watch_for_cancelling(
    make_model: ModelFactory, open_store: StoreOpener
) -> None:
    class FailingStore(ResponseStore):
        failures = 0

        def wanted(self, response_ids: Collection[str]) -> set[str]:
            if not self.failures:
                self.failures += 1
                raise StoreUnavailableError("The disk is busy.")
            return super().wanted(response_ids)

    model = make_model(THOUGHT + "<|channel|>final<|message|>" + "long " * 400, token_interval_s=0.05)
    failing = open_store(FailingStore)
    store = StoredResponses(failing)
    events = await ResponsesService(model, ChatService(model), store).open_stream(ResponsesRequest.parse(REQUEST))
    first = await anext(events)
    assert isinstance(first, LifecycleEvent)
    await store.cancel("", first.response.id)
    last = [event async for event in events][-1]
    assert isinstance(last, LifecycleEvent)
    assert (last.response.status, failing.failures) == ("cancelled", 1)


async def test_references_count_against_the_limits_and_are_read_once(
    make_model: ModelFactory, open_store: StoreOpener
) -> None:
    class CountingStore(ResponseStore):
        reads = 0

        def find_item(self, owner: str, item_id: str) -> StoredItem | None:
            self.reads += 1
            return super().find_item(owner, item_id)

    model = make_model(ANSWER)
    model.limits = HttpLimits(characters=10_000)
    store = open_store(CountingStore)
    api = create_api(model, ApiOptions(stored_responses=StoredResponses(store)))
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    item = {"type": "message", "id": "msg_1", "role": "user", "status": "completed"}
    store.begin("", {"id": "r", "output": []}, [], [item | {"content": [{"type": "input_text", "text": "hi " * 20}]}])
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for count, status in ((2, 200), (300, 400)):
            store.reads = 0
            references = [{"type": "item_reference", "id": "msg_1"}] * count
            answer = await client.post("/v1/responses", json=REQUEST | {"input": references})
            assert (answer.status_code, store.reads) == (status, 1), answer.text
        assert answer.json()["error"]["code"] == "limit_exceeded"
        assert "10,000 (http.limits.characters)" in answer.json()["error"]["message"]
        # What is referred to and what is sent count together.
        new = {"role": "user", "content": "word " * 1_950}
        answer = await client.post("/v1/responses", json=REQUEST | {"input": [*references[:4], new]})
        assert (answer.status_code, answer.json()["error"].get("code")) == (400, "limit_exceeded")
        assert "http.limits.characters" in answer.json()["error"]["message"]


async def test_each_key_sees_only_its_own_responses(
    make_model: ModelFactory, open_store: StoreOpener, tmp_path: Path
) -> None:
    keys = KeyStore(tmp_path / "keys.json")
    secrets = [keys.create(name)[1] for name in ("a", "b")]
    store = StoredResponses(open_store())
    api = create_api(make_model(ANSWER), ApiOptions(gate=KeyGate(keys), stored_responses=store))
    own, other = ({"Authorization": f"Bearer {secret}"} for secret in secrets)
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = (await client.post("/v1/responses", json=REQUEST, headers=own)).json()
        path = f"/v1/responses/{answer['id']}"
        for method, url in (
            ("GET", path),
            ("GET", f"{path}/input_items"),
            ("POST", f"{path}/cancel"),
            ("DELETE", path),
        ):
            headers = other | {"Content-Type": "application/json"}
            assert (await client.request(method, url, headers=headers)).status_code == 404
        follow = REQUEST | {"previous_response_id": answer["id"]}
        assert (await client.post("/v1/responses", json=follow, headers=other)).status_code == 404
        assert (await client.get(path)).status_code == 401
        assert (await client.get(path, headers=own)).status_code == 200


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_database_that_does_not_answer_is_named(
    make_model: ModelFactory, postgresql: PostgresqlServer, is_stream: bool
) -> None:
    """Requests that do not need it are answered."""
    location = SqlLocation(
        url=f"postgresql://u@127.0.0.1:{free_port()}/responses", password_file=postgresql.password_file
    )
    with contextlib.closing(ResponseStore(location, max_age_s=3600, max_bytes_per_owner=2**20)) as store:
        model = make_model(ANSWER)
        async with storing_client(model, store) as client:
            body = REQUEST | {"stream": is_stream}
            for answer in (
                await client.post("/v1/responses", json=body),
                await client.post("/v1/responses", json=body | {"previous_response_id": "resp_1"}),
                await client.get("/v1/responses/resp_1"),
            ):
                assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
                error = answer.json()["error"]
                assert (error["type"], error["code"]) == ("server_error", "store_unavailable")
                assert "the PostgreSQL database 'responses' does not answer" in error["message"]
            assert (await client.post("/v1/responses", json=body | {"store": False})).status_code == 200
        assert model.engine.stats().requests == 0
