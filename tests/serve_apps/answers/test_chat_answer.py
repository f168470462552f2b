"""Tool calls, stop strings, choices and log-probabilities of scripted tokens, whole and streamed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from serve_apps.engines.engine import OPTIONS, TokenChunk, TokenLogprob
from tests.serve_apps.api_client import CHAT, THOUGHT, TOOL, client_of, stream_chat
from tests.serve_apps.conftest import ModelFactory

HEADERS = {
    "recipient before the channel": " to=functions.weather<|channel|>commentary <|constrain|>json",
    "recipient in the channel": "<|channel|>commentary to=functions.weather <|constrain|>json",
    "plain": "<|channel|>commentary to=functions.weather",
}
WITH_OPTIONS: dict[str, Any] = {"options": OPTIONS}


async def answered(model: Any, body: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """The whole completion, and the chunks of the same answer streamed."""
    async with client_of(model) as client:
        whole = await client.post("/v1/chat/completions", json=body)
        assert whole.status_code == 200, whole.text
        *chunks, done = await stream_chat(client, body)
    assert done == "[DONE]"
    return whole.json(), chunks


def assemble(chunks: list[Any], index: int = 0) -> dict[str, Any]:
    """The message of one choice, as an SDK assembles it from the deltas."""
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
async def test_a_call_has_the_form_that_sdks_expect(make_model: ModelFactory, header: str) -> None:
    preamble = "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant"
    reply = f'{THOUGHT}{preamble}{header}<|message|>{{"city": "Oslo"}}<|call|>'
    whole, chunks = await answered(make_model(reply, **WITH_OPTIONS), CHAT | {"tools": [TOOL]})
    (choice,) = whole["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert (call["type"], call["function"]["name"]) == ("function", "weather")
    assert json.loads(call["function"]["arguments"]) == {"city": "Oslo"}
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None, "text before a call is not content"
    assert choice["message"]["reasoning_content"] == "Think.I look."
    streamed = assemble(chunks)
    assert streamed["calls"][0]["arguments"] == call["function"]["arguments"]
    assert (streamed["calls"][0]["name"], streamed["finish_reason"]) == ("weather", "tool_calls")
    assert streamed["calls"][0]["id"].startswith("call_")


async def test_an_incomplete_call_ends_with_length(make_model: ModelFactory) -> None:
    reply = f'{HEADERS["plain"]}<|message|>{{"city": "Oslo"}}<|call|>'
    whole, _ = await answered(make_model(reply, **WITH_OPTIONS), CHAT | {"tools": [TOOL], "max_tokens": 24})
    assert whole["choices"][0]["finish_reason"] == "length"


async def test_a_result_goes_back_to_the_model(make_model: ModelFactory) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    messages = [
        {"role": "user", "content": "Weather in Oslo?"},
        {"role": "assistant", "tool_calls": [call], "reasoning_content": "Ask."},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    model = make_model("<|channel|>final<|message|>Sunny.<|return|>", **WITH_OPTIONS)
    whole, _ = await answered(model, CHAT | {"tools": [TOOL], "messages": messages})
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
async def test_stop_strings_cut_before_them(make_model: ModelFactory, stop: Any, expected: str) -> None:
    """Only in the content, not in the reasoning. The rest of the answer is not generated."""
    reply = "<|channel|>analysis<|message|>dog, cat and zebra<|end|><|start|>assistant<|channel|>final<|message|>"
    model = make_model(f"{reply}The cat and the dog.<|return|>")
    whole, chunks = await answered(model, CHAT | {"stop": stop})
    (choice,) = whole["choices"]
    assert choice["message"]["content"] == assemble(chunks)["content"] == expected
    assert choice["finish_reason"] == assemble(chunks)["finish_reason"] == "stop"
    assert choice["message"]["reasoning_content"] == "dog, cat and zebra"
    assert model.engine.stats().requests == 0


async def test_n_gives_n_choices(make_model: ModelFactory) -> None:
    replies = [f"<|channel|>final<|message|>Answer {n}.<|return|>" for n in ("one", "two", "three")]
    model = make_model(*replies)
    body = CHAT | {"n": 3, "stream_options": {"include_usage": True}}
    async with client_of(model) as client:
        whole = (await client.post("/v1/chat/completions", json=CHAT | {"n": 3})).json()
        *chunks, _ = await stream_chat(client, body)
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in whole["choices"]} == {
        "Answer one.",
        "Answer two.",
        "Answer three.",
    }
    assert {assemble(chunks, index)["content"] for index in range(3)} == {
        "Answer one.",
        "Answer two.",
        "Answer three.",
    }
    assert all(assemble(chunks, index)["finish_reason"] == "stop" for index in range(3))
    assert whole["usage"] == chunks[-1]["usage"]
    assert whole["usage"]["completion_tokens"] > 12


async def test_an_engine_that_dies_ends_all_choices(make_model: ModelFactory) -> None:
    model = make_model("<|channel|>final<|message|>on and ", crash_after_tokens=40)
    async with client_of(model) as client:
        *_, last = await stream_chat(client, CHAT | {"n": 3})
    assert last["error"]["type"] == "server_error"


class WithLogprobs:
    """A scripted engine with made-up log-probabilities: -n for the n-th token."""

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


async def test_log_probabilities_are_those_of_the_answers_tokens(make_model: ModelFactory) -> None:
    """None for reasoning, headers and text after a stop string."""
    reply = f"{THOUGHT}<|channel|>final<|message|>Héllo there, you.<|return|>"
    model = make_model(reply, **WITH_OPTIONS)
    model.engine = WithLogprobs(model.engine)  # type: ignore[assignment]
    for stop, expected in (([], "Héllo there, you."), (["there"], "Héllo ")):
        body = CHAT | {"logprobs": True, "top_logprobs": 2, "stop": stop}
        whole, chunks = await answered(model, body)
        entries = whole["choices"][0]["logprobs"]["content"]
        streamed = [e for c in chunks for e in ((c["choices"][0].get("logprobs") or {}).get("content") or [])]
        assert streamed == entries
        read = bytes(byte for entry in entries for byte in entry["bytes"]).decode()
        assert read.startswith(expected)
        # The last token may extend beyond the stop string.
        assert len(read) - len(bytes(entries[-1]["bytes"]).decode(errors="replace")) < len(expected)
        assert [e["logprob"] for e in entries] == [entries[0]["logprob"] - i for i in range(len(entries))]
        assert all(len(entry["top_logprobs"]) == 2 for entry in entries)


def call_text(name: str, arguments: str) -> str:
    return f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{arguments}"


@pytest.mark.parametrize("second", ["refund", "pay"])
async def test_two_different_calls_in_one_answer_are_never_merged(make_model: ModelFactory, second: str) -> None:
    """The first call ends the answer: the model left the format, in which a call is its last message."""
    first_call = call_text("pay", '{"amount": 5}')
    reply = f"{THOUGHT}{first_call}<|end|><|start|>assistant{call_text(second, '{}')}<|call|>"
    tools = [{"type": "function", "function": {"name": name}} for name in ("pay", "refund")]
    model = make_model(reply, **WITH_OPTIONS)
    whole, chunks = await answered(model, CHAT | {"tools": tools})
    (choice,) = whole["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("pay", {"amount": 5})
    assert (choice["finish_reason"], choice["harmony_malformed"]) == ("tool_calls", True)
    streamed = assemble(chunks)
    assert [called["arguments"] for called in streamed["calls"].values()] == ['{"amount": 5}']
    assert streamed["finish_reason"] == "tool_calls"
    assert chunks[-1]["choices"][0]["harmony_malformed"] is True
    assert model.engine.stats().requests == 0
