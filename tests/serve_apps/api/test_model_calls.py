"""Calls instead of HTTP: the same answers, errors as answers, tokens counted, events gathered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from serve_apps.api import model_calls
from serve_apps.api.model_calls import Answered, Events, ModelCalls
from serve_apps.http_front.async_streams import gathered
from serve_apps.metrics.measured_engine import MeasuredEngine
from tests.serve_apps.api.test_routes import ANSWER, ASK
from tests.serve_apps.conftest import ServiceFactory


def calls_of(service: Any) -> ModelCalls:
    service._engine = MeasuredEngine(service.engine, "tiny", "tiny/1")
    return ModelCalls(service)


async def test_a_whole_answer_and_its_tokens(make_service: ServiceFactory) -> None:
    (answered,) = [item async for item in calls_of(make_service(ANSWER)).whole("/v1/chat/completions", ASK)]
    assert isinstance(answered, Answered)
    assert answered.status == 200
    assert answered.content is not None
    assert answered.tokens == answered.content["usage"]["total_tokens"]


async def test_a_long_answer_tells_its_tokens_before_it_is_there_and_ends_when_it_is_left(
    make_service: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_calls, "CHARGE_EVERY_S", 0.02)
    service = make_service(ANSWER, ANSWER, token_interval_s=0.01)
    calls = calls_of(service)
    *before, answered = [item async for item in calls.whole("/v1/chat/completions", ASK)]
    assert isinstance(answered, Answered)
    assert answered.content is not None
    assert len(before) > 2
    assert sum(item.tokens for item in [*before, answered]) == answered.content["usage"]["total_tokens"]
    leaving = calls.whole("/v1/chat/completions", ASK)
    first = await anext(leaving)
    assert (first.text, first.tokens > 0) == ("", True)  # type: ignore[union-attr]
    await leaving.aclose()  # type: ignore[attr-defined]
    assert service.engine.stats().requests == 0


async def test_a_stream_and_its_tokens(make_service: ServiceFactory) -> None:
    calls = calls_of(make_service(ANSWER, token_interval_s=0.001))
    body = ASK | {"stream": True, "stream_options": {"include_usage": True}}
    first, *rest = [item async for item in calls.streamed("/v1/chat/completions", body)]
    assert first == Answered(200, None)
    assert all(isinstance(item, Events) for item in rest)
    events = "".join(item.text for item in rest if isinstance(item, Events)).split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    usage = json.loads(events[-3].removeprefix("data: "))["usage"]
    assert sum(item.tokens for item in rest if isinstance(item, Events)) == usage["total_tokens"]


@pytest.mark.parametrize("change", [{"model": "other"}, {"max_tokens": 0}, {"n": 99}])
async def test_mistakes_are_answers(make_service: ServiceFactory, change: dict[str, Any]) -> None:
    calls = calls_of(make_service(ANSWER))
    (whole,) = [item async for item in calls.whole("/v1/chat/completions", ASK | change)]
    (streamed,) = [item async for item in calls.streamed("/v1/chat/completions", ASK | change | {"stream": True})]
    assert isinstance(whole, Answered)
    assert isinstance(streamed, Answered)
    assert whole.status == streamed.status in (400, 404)
    assert whole.content == streamed.content


async def test_an_engine_that_dies_is_an_event(make_service: ServiceFactory) -> None:
    calls = calls_of(make_service(ANSWER, crash_after_tokens=12))
    items = [item async for item in calls.streamed("/v1/chat/completions", ASK | {"stream": True})]
    text = "".join(item.text for item in items if isinstance(item, Events))
    assert '"type": "server_error"' in text
    assert "[DONE]" not in text


async def ticking(count: int, every_s: float) -> AsyncIterator[str]:
    for number in range(count):
        await asyncio.sleep(every_s)
        yield f"{number} "


async def test_fast_events_come_together_slow_ones_at_once_and_none_is_lost() -> None:
    fast = [text async for text in gathered(ticking(200, 0.0), every_s=0.05)]
    assert "".join(fast) == "".join(f"{n} " for n in range(200))
    assert len(fast) < 20
    slow = [text async for text in gathered(ticking(4, 0.03), every_s=0.01)]
    assert slow == ["0 ", "1 ", "2 ", "3 "]


async def test_an_error_comes_after_what_was_before_it() -> None:
    async def failing() -> AsyncIterator[str]:
        yield "a"
        raise ValueError("broken")

    seen = []
    with pytest.raises(ValueError, match="broken"):
        async for text in gathered(failing()):
            seen.append(text)
    assert seen == ["a"]
