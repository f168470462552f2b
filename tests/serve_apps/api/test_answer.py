"""Calls, stop strings, choices and log-probabilities, over scripted tokens: what a client sees, whole and streamed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.api.answer import StopStrings
from serve_apps.engines.engine import OPTIONS, TokenChunk, TokenLogprob
from serve_apps.http_front.async_streams import merge
from tests.serve_apps.api.test_routes import ASK, THOUGHT, TOOL, client_of, events
from tests.serve_apps.conftest import ServiceFactory

HEADERS = {
    "recipient before the channel": " to=functions.weather<|channel|>commentary <|constrain|>json",
    "recipient in the channel": "<|channel|>commentary to=functions.weather <|constrain|>json",
    "plain": "<|channel|>commentary to=functions.weather",
}
WITH_OPTIONS: dict[str, Any] = {"options": OPTIONS}


async def answered(service: Any, body: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """The whole completion, and the chunks of the same answer streamed."""
    async with client_of(service) as client:
        whole = await client.post("/v1/chat/completions", json=body)
        assert whole.status_code == 200, whole.text
        *chunks, done = await events(client, body)
    assert done == "[DONE]"
    return whole.json(), chunks


def put_together(chunks: list[Any], index: int = 0) -> dict[str, Any]:
    """What an SDK makes of the deltas of one choice."""
    message: dict[str, Any] = {"content": "", "reasoning_content": "", "calls": {}, "finish_reason": None}
    for chunk in chunks:
        for choice in (c for c in chunk["choices"] if c["index"] == index):
            delta = choice["delta"]
            message["content"] += delta.get("content") or ""
            message["reasoning_content"] += delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls") or []:
                kept = message["calls"].setdefault(call["index"], {"id": call.get("id"), "name": "", "arguments": ""})
                kept["name"] += call["function"].get("name") or ""
                kept["arguments"] += call["function"]["arguments"]
            message["finish_reason"] = choice.get("finish_reason") or message["finish_reason"]
    return message


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
async def test_a_call_is_given_as_the_sdk_expects(make_service: ServiceFactory, header: str) -> None:
    preamble = "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant"
    reply = f'{THOUGHT}{preamble}{header}<|message|>{{"city": "Oslo"}}<|call|>'
    whole, chunks = await answered(make_service(reply, **WITH_OPTIONS), ASK | {"tools": [TOOL]})
    (choice,) = whole["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert (call["type"], call["function"]["name"]) == ("function", "weather")
    assert json.loads(call["function"]["arguments"]) == {"city": "Oslo"}
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None, "what is said before a call is no answer"
    assert choice["message"]["reasoning_content"] == "Think.I look."
    streamed = put_together(chunks)
    assert streamed["calls"][0]["arguments"] == call["function"]["arguments"]
    assert (streamed["calls"][0]["name"], streamed["finish_reason"]) == ("weather", "tool_calls")
    assert streamed["calls"][0]["id"].startswith("call_")


async def test_a_call_that_was_cut_is_no_call_to_make(make_service: ServiceFactory) -> None:
    reply = f'{HEADERS["plain"]}<|message|>{{"city": "Oslo"}}<|call|>'
    whole, _ = await answered(make_service(reply, **WITH_OPTIONS), ASK | {"tools": [TOOL], "max_tokens": 24})
    assert whole["choices"][0]["finish_reason"] == "length"


async def test_a_result_goes_back_to_the_model(make_service: ServiceFactory) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    messages = [
        {"role": "user", "content": "Weather in Oslo?"},
        {"role": "assistant", "tool_calls": [call], "reasoning_content": "Ask."},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    service = make_service("<|channel|>final<|message|>Sunny.<|return|>", **WITH_OPTIONS)
    whole, _ = await answered(service, ASK | {"tools": [TOOL], "messages": messages})
    assert whole["choices"][0]["message"]["content"] == "Sunny."


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ("dog", "The cat and the "),
        (["zebra", "cat"], "The "),
        (" and", "The cat"),
        ("nothing of it", "The cat and the dog."),
    ],
)
async def test_stop_strings_cut_before_them(make_service: ServiceFactory, stop: Any, expected: str) -> None:
    """In the answer only, not in what was thought of it; what comes after is neither shown nor made."""
    reply = "<|channel|>analysis<|message|>dog, cat and zebra<|end|><|start|>assistant<|channel|>final<|message|>"
    service = make_service(f"{reply}The cat and the dog.<|return|>")
    whole, chunks = await answered(service, ASK | {"stop": stop})
    (choice,) = whole["choices"]
    assert choice["message"]["content"] == put_together(chunks)["content"] == expected
    assert choice["finish_reason"] == put_together(chunks)["finish_reason"] == "stop"
    assert choice["message"]["reasoning_content"] == "dog, cat and zebra"
    assert service.engine.stats().requests == 0


@given(st.lists(st.text("ab", max_size=4), max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_stop_strings_whatever_the_pieces(pieces: list[str], stops: list[str]) -> None:
    matcher = StopStrings(tuple(stops))
    shown = ""
    for piece in pieces:
        shown += matcher.feed(piece)
        assert not any(stop in shown for stop in stops)
        if matcher.stopped:
            break
    shown += matcher.flush()
    text = "".join(pieces)
    complete = [(place + len(stop), place) for stop in stops if (place := text.find(stop)) >= 0]
    assert shown == (text[: min(complete)[1]] if complete else text)
    assert matcher.stopped == bool(complete)


async def test_n_gives_n_choices(make_service: ServiceFactory) -> None:
    replies = [f"<|channel|>final<|message|>Answer {n}.<|return|>" for n in ("one", "two", "three")]
    service = make_service(*replies)
    body = ASK | {"n": 3, "stream_options": {"include_usage": True}}
    async with client_of(service) as client:
        whole = (await client.post("/v1/chat/completions", json=ASK | {"n": 3})).json()
        *chunks, _ = await events(client, body)
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in whole["choices"]} == {
        "Answer one.",
        "Answer two.",
        "Answer three.",
    }
    assert {put_together(chunks, index)["content"] for index in range(3)} == {
        "Answer one.",
        "Answer two.",
        "Answer three.",
    }
    assert all(put_together(chunks, index)["finish_reason"] == "stop" for index in range(3))
    assert whole["usage"] == chunks[-1]["usage"]
    assert whole["usage"]["completion_tokens"] > 12


async def test_an_engine_that_dies_ends_all_choices(make_service: ServiceFactory) -> None:
    service = make_service("<|channel|>final<|message|>on and ", crash_after_tokens=40)
    async with client_of(service) as client:
        *_, last = await events(client, ASK | {"n": 3})
    assert last["error"]["type"] == "server_error"


class WithLogprobs:
    """A scripted engine whose tokens have made-up log-probabilities: the n-th has -n."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def generate(self, request: Any) -> AsyncIterator[TokenChunk]:
        count = 0
        async for chunk in self._engine.generate(request):
            entries = []
            for token in chunk.token_ids:
                count += 1
                top = tuple((token + i, -count - i) for i in range(request.logprobs))
                entries.append(TokenLogprob(token, -count, top))
            yield TokenChunk(chunk.token_ids, chunk.finish_reason, tuple(entries))


async def test_log_probabilities_are_those_of_the_answers_tokens(make_service: ServiceFactory) -> None:
    """Not of reasoning, headers or what a stop string cut off."""
    reply = f"{THOUGHT}<|channel|>final<|message|>Héllo there, you.<|return|>"
    service = make_service(reply, **WITH_OPTIONS)
    service._engine = WithLogprobs(service._engine)  # type: ignore[assignment]
    for stop, expected in (([], "Héllo there, you."), (["there"], "Héllo ")):
        body = ASK | {"logprobs": True, "top_logprobs": 2, "stop": stop}
        whole, chunks = await answered(service, body)
        entries = whole["choices"][0]["logprobs"]["content"]
        streamed = [e for c in chunks for e in ((c["choices"][0].get("logprobs") or {}).get("content") or [])]
        assert streamed == entries
        read = bytes(byte for entry in entries for byte in entry["bytes"]).decode()
        assert read.startswith(expected)
        # The last one may reach into what was cut.
        assert len(read) - len(bytes(entries[-1]["bytes"]).decode(errors="replace")) < len(expected)
        assert [e["logprob"] for e in entries] == [entries[0]["logprob"] - i for i in range(len(entries))]
        assert all(len(entry["top_logprobs"]) == 2 for entry in entries)


async def test_merging_passes_errors_on_and_closes_the_rest() -> None:
    closed = []

    async def endless(name: str) -> AsyncIterator[str]:
        try:
            while True:
                yield name
                await asyncio.sleep(0)
        finally:
            closed.append(name)

    async def failing() -> AsyncIterator[str]:
        yield "f"
        raise ValueError("broken")

    seen = []
    with pytest.raises(ValueError, match="broken"):
        async for item in merge([endless("a"), failing(), endless("b")]):  # type: ignore[list-item]
            seen.append(item)
    assert {"a", "f"} <= set(seen)
    assert sorted(closed) == ["a", "b"]
