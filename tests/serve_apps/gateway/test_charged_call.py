"""A client that leaves pays for what the replica made until then, and for nothing twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.gateway.metrics import GatewayMetrics
from serve_apps.keys.counting import KeyCounting
from serve_apps.keys.key_gate import KeyGate
from serve_apps.keys.metrics import KeyMetrics
from serve_apps.keys.usage_recorder import UsageRecorder
from tests.serve_apps.api_client import CHAT
from tuneyard.api.api_keys import KeyStore
from tuneyard.api.usage_counts import UsageCounts
from tuneyard.api.usage_ledger import UsageLedger
from tuneyard.configs.serve import HttpConfig
from tuneyard.storage.sql.location import SqlLocation

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Serve's own, when it is imported


class ReplicaItems:
    """What Serve returns for a streaming call: items that arrived stay readable after `cancel`, then an error comes."""

    def __init__(self, *items: Any, log: Callable[[str], object] = lambda _: None) -> None:
        self._arrived = list(items)
        self._has_news = asyncio.Event()
        self._log = log
        self.is_cancelled = False

    def arrive(self, *items: Any) -> None:
        self._arrived += items
        self._has_news.set()

    def cancel(self) -> None:
        self._log("cancelled")
        self.is_cancelled = True
        self._has_news.set()

    async def __anext__(self) -> Any:
        from ray.serve.exceptions import RequestCancelledError

        while not self._arrived:
            if self.is_cancelled:
                raise RequestCancelledError("r")
            self._has_news.clear()
            await self._has_news.wait()
        return self._arrived.pop(0)


def tokens(count: int) -> Any:
    from serve_apps.api.model_calls import CallEvents

    return CallEvents(f'data: {{"tokens": {count}}}\n\n', UsageCounts(completion_tokens=count))


class CountingGrant:
    """A grant that adds up what is charged."""

    def __init__(self) -> None:
        self.charged = 0

    def charge(self, counts: UsageCounts) -> None:
        self.charged += counts.completion_tokens


@settings(max_examples=60, deadline=None)
@given(
    read=st.lists(st.integers(1, 9), max_size=4),
    unread=st.lists(st.integers(1, 9), max_size=4),
    is_waiting=st.booleans(),
)
async def test_every_item_is_charged_once_whenever_the_call_is_cancelled(
    read: list[int], unread: list[int], *, is_waiting: bool
) -> None:
    """`is_waiting`: the client leaves while the next item is awaited, and that item comes at the same moment."""
    from serve_apps.gateway.charged_call import ChargedCall
    from serve_apps.tracing.span import NO_SPAN

    grant = CountingGrant()
    items = ReplicaItems(*map(tokens, read))
    call = ChargedCall(items, grant.charge, NO_SPAN)
    for count in read:
        assert (await anext(call)).used.completion_tokens == count
    if is_waiting:
        reader = asyncio.ensure_future(anext(call))
        await asyncio.sleep(0)
        items.arrive(*map(tokens, unread))
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
    else:
        items.arrive(*map(tokens, unread))
    for _ in range(2):
        await call.cancel()
        assert items.is_cancelled
        assert grant.charged == sum(read) + sum(unread)


async def test_a_replica_that_does_not_end_its_call_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from serve_apps.gateway import charged_call
    from serve_apps.tracing.span import NO_SPAN

    monkeypatch.setattr(charged_call, "CANCEL_TIMEOUT_S", 0.01)
    items = ReplicaItems(tokens(3))
    monkeypatch.setattr(items, "cancel", lambda: None)
    grant = CountingGrant()
    async with asyncio.timeout(5):
        await charged_call.ChargedCall(items, grant.charge, NO_SPAN).cancel()
    assert grant.charged == 3


async def test_a_client_that_leaves_ends_the_call_before_its_grant(tmp_path: Path) -> None:
    """A client that reads nothing of its stream: what the replica reported is in its usage all the same."""
    from serve_apps.api.model_calls import CallAnswer, ModelDescription
    from serve_apps.gateway.app import create_gateway_api
    from serve_apps.gateway.model_directory import ModelDirectory
    from serve_apps.gateway.running_model import RunningModel

    order: list[str] = []
    items = ReplicaItems(CallAnswer(200, None), tokens(1), log=order.append)

    class Calls:
        """A model's handle, whose only call is `items`."""

        def options(self, **_: Any) -> Calls:
            return self

        stream = property(lambda self: self)

        def remote(self, *_: Any) -> ReplicaItems:
            return items

    class OneModel(ModelDirectory):
        """The model `tiny`, without Ray."""

        async def find(self, name: str, owner: str = "") -> RunningModel:  # noqa: ARG002  # see ModelDirectory
            handle: Any = Calls()
            return RunningModel("tiny", ModelDescription(name, "tiny/1", 128, 0, {}), handle)

    class SlowRedis:
        """Shared limits that take their time, and are told when the grant closes."""

        async def take_request(self, _: Any) -> None:
            return None

        async def reserve(self, *_: Any) -> Any:
            return self

        left = None

        def charge(self, _: Any, count: int) -> None:
            order.append(f"charged {count}")

        def release(self, _: Any) -> None:
            order.append("released")

        async def settle(self) -> None:
            await asyncio.sleep(0.01)

    store = KeyStore(tmp_path / "api_keys.json")
    key, secret = store.create("k", tokens_per_minute=100_000)
    usage = UsageRecorder(UsageLedger(SqlLocation(file=tmp_path / "usage.db")), 3600, KeyMetrics())
    shared: Any = SlowRedis()
    gate = KeyGate(store, counting=KeyCounting(usage, shared))
    metrics: Any = None
    http = HttpConfig(allowed_hosts=("*",))
    api = create_gateway_api(OneModel(), gate, http, GatewayMetrics("r"), metrics)
    body = [{"type": "http.request", "body": json.dumps(CHAT | {"stream": True}).encode(), "more_body": False}]
    has_left = asyncio.Event()

    async def receive() -> Any:
        if body:
            return body.pop()
        await has_left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if b"tokens" in message.get("body", b""):
            items.arrive(tokens(20), tokens(300))
            has_left.set()
            await asyncio.Event().wait()  # the client reads no further

    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b""}
    headers = [
        (b"host", b"test"),
        (b"content-type", b"application/json"),
        (b"authorization", f"Bearer {secret}".encode()),
    ]
    with contextlib.suppress(asyncio.CancelledError):
        async with asyncio.timeout(10):
            await api(scope | {"headers": headers, "asgi": {"version": "3.0", "spec_version": "2.3"}}, receive, send)
    assert order[-1] == "released"
    assert order.index("cancelled") < order.index("charged 300")
    assert usage.of_month(key) == UsageCounts(requests=1, completion_tokens=321)
