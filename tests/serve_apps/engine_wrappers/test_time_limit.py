"""A request over the time limit ends with a 504, or with an error event in mid-stream."""

from __future__ import annotations

import asyncio

from serve_apps.engine_wrappers.measured_engine import MeasuredEngine
from serve_apps.engine_wrappers.time_limit import TimeLimitedEngine
from serve_apps.metrics.exposition import as_text
from tests.serve_apps.api_client import CHAT, TEXT, client_of
from tests.serve_apps.conftest import ModelFactory


async def test_a_request_over_the_time_limit_is_answered_504(make_model: ModelFactory) -> None:
    slow = make_model(*[f"<|channel|>final<|message|>{TEXT}<|return|>"] * 2, token_interval_s=0.2)
    slow.engine = engine = MeasuredEngine(TimeLimitedEngine(slow.engine, 0.5), "tiny", "tiny/1")
    async with client_of(slow) as client:
        whole = await client.post("/v1/chat/completions", json=CHAT)
        assert (whole.status_code, whole.json()["error"]["type"]) == (504, "timeout_error")
        assert "after 0.5 s (answer_timeout_s)" in whole.json()["error"]["message"]
        asking = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT | {"stream": True}))
        while not engine.waiting_requests:
            await asyncio.sleep(0.01)
        assert 'waiting_requests{model="tiny",replica="",version="tiny/1"} 1.0' in as_text(await engine.metrics())
        streamed = (await asking).text
    assert engine.waiting_requests == 0
    assert "timeout_error" in streamed
    assert "[DONE]" not in streamed
    assert engine.stats().requests == 0
    assert 'outcome="timeout"' in as_text(await engine.metrics())
