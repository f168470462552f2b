"""Calls instead of HTTP: the same answers, errors as answers, tokens to charge."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serve_apps.api import model_calls
from serve_apps.api.model_calls import CallAnswer, CallEvents, ModelCalls
from serve_apps.engine_wrappers.token_charge import ChargedEngine
from serve_apps.generation.served_model import ServedModel
from serve_apps.http_front.events import ends_stream
from tests.serve_apps.api_client import ANSWER, CHAT
from tests.serve_apps.conftest import ModelFactory


def calls_of(model: ServedModel) -> ModelCalls:
    """The calls of a model whose tokens are charged."""
    model.engine = ChargedEngine(model.engine)
    return ModelCalls(model)


async def test_a_whole_answer_and_its_tokens(make_model: ModelFactory) -> None:
    (answered,) = [item async for item in calls_of(make_model(ANSWER)).complete("/v1/chat/completions", CHAT)]
    assert isinstance(answered, CallAnswer)
    assert answered.status == 200
    assert answered.content is not None
    assert answered.used.tokens == answered.content["usage"]["total_tokens"]


async def test_a_long_answer_reports_its_tokens_early_and_is_aborted_when_closed(
    make_model: ModelFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_calls, "CHARGE_INTERVAL_S", 0.02)
    model = make_model(ANSWER, ANSWER, token_interval_s=0.01)
    calls = calls_of(model)
    *before, answered = [item async for item in calls.complete("/v1/chat/completions", CHAT)]
    assert isinstance(answered, CallAnswer)
    assert answered.content is not None
    assert len(before) > 2
    assert sum(item.used.tokens for item in [*before, answered]) == answered.content["usage"]["total_tokens"]
    closed = calls.complete("/v1/chat/completions", CHAT)
    while not (item := await anext(closed)).used.tokens:
        pass
    assert isinstance(item, CallEvents)
    assert item.text == ""
    await closed.aclose()
    assert model.engine.stats().requests == 0


async def test_responses_whole_and_streamed(make_model: ModelFactory) -> None:
    calls = calls_of(make_model(ANSWER))
    body = {"model": "tiny", "input": "hi", "temperature": 0}
    (answered,) = [item async for item in calls.complete("/v1/responses", body, "owner")]
    assert isinstance(answered, CallAnswer)
    assert answered.content is not None
    assert answered.used.tokens == answered.content["usage"]["total_tokens"]
    first, *rest = [item async for item in calls.stream("/v1/responses", body | {"stream": True}, "owner")]
    assert first == CallAnswer(200, None)
    text = "".join(item.text for item in rest if isinstance(item, CallEvents))
    assert text.startswith("event: response.created\n")
    assert ends_stream(text)
    assert "[DONE]" not in text
    assert sum(item.used.tokens for item in rest) == answered.used.tokens


async def test_a_stream_and_its_tokens(make_model: ModelFactory) -> None:
    calls = calls_of(make_model(ANSWER, token_interval_s=0.001))
    body = CHAT | {"stream": True, "stream_options": {"include_usage": True}}
    first, *rest = [item async for item in calls.stream("/v1/chat/completions", body)]
    assert first == CallAnswer(200, None)
    assert all(isinstance(item, CallEvents) for item in rest)
    events = "".join(item.text for item in rest if isinstance(item, CallEvents)).split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    usage = json.loads(events[-3].removeprefix("data: "))["usage"]
    assert sum(item.used.tokens for item in rest if isinstance(item, CallEvents)) == usage["total_tokens"]


@pytest.mark.parametrize("change", [{"model": "other"}, {"max_tokens": 0}, {"n": 99}])
async def test_errors_are_answers(make_model: ModelFactory, change: dict[str, Any]) -> None:
    calls = calls_of(make_model(ANSWER))
    (whole,) = [item async for item in calls.complete("/v1/chat/completions", CHAT | change)]
    (streamed,) = [item async for item in calls.stream("/v1/chat/completions", CHAT | change | {"stream": True})]
    assert isinstance(whole, CallAnswer)
    assert isinstance(streamed, CallAnswer)
    assert whole.status == streamed.status in (400, 404)
    assert whole.content == streamed.content


async def test_an_engine_that_dies_is_an_event(make_model: ModelFactory) -> None:
    calls = calls_of(make_model(ANSWER, crash_after_tokens=12))
    items = [item async for item in calls.stream("/v1/chat/completions", CHAT | {"stream": True})]
    text = "".join(item.text for item in items if isinstance(item, CallEvents))
    assert '"type": "server_error"' in text
    assert "[DONE]" not in text


async def test_a_stream_that_is_closed_before_its_first_event_is_aborted(make_model: ModelFactory) -> None:
    model = make_model(ANSWER, token_interval_s=86_400)
    items = calls_of(model).stream("/v1/chat/completions", CHAT | {"stream": True})
    assert await anext(items) == CallAnswer(200, None)
    assert model.engine.stats().requests == 1
    await items.aclose()
    assert model.engine.stats().requests == 0
