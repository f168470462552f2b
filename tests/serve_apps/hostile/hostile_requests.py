"""The most expensive requests that the limits let in, per route; and the requests that once stopped the server."""

from __future__ import annotations

from typing import Any

from tuneyard.configs.http_limits import HttpLimits

LIMITS = HttpLimits()
CHAT_PATH = "/v1/chat/completions"

_SENTENCE = "The quick brown fox, jumped over 123 lazy dogs. "


def _chat(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": list(messages), "max_tokens": 4} | more


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _call(number: int) -> list[dict[str, Any]]:
    function = {"name": "f", "arguments": "{}"}
    return [
        {"role": "assistant", "tool_calls": [{"id": f"c{number}", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": f"c{number}", "content": "x"},
    ]


def _tool(number: int, parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": f"f{number}", "parameters": parameters}}


def _wide_schema(properties: int) -> dict[str, Any]:
    names = {f"property_{i}": {"type": "string", "description": "What it is."} for i in range(properties)}
    return {"type": "object", "properties": names}


def worst_requests() -> list[tuple[str, str, dict[str, Any]]]:
    """What it is, the path and the body of each. Most fit all limits but that of the context, which is found last."""
    long_text = _SENTENCE * (LIMITS.message_characters // len(_SENTENCE))
    run = "a" * (LIMITS.run_characters - 1)
    pairs = [message for number in range(LIMITS.messages // 2 - 1) for message in _call(number)]
    ids = list(range(100)) * (LIMITS.token_ids // 100)
    bias = {str(token): 1.0 for token in range(LIMITS.logit_bias_entries)}
    nested: list[Any] = [[] for _ in range(LIMITS.json_containers - 100)]
    return [
        ("three messages of a megabyte", CHAT_PATH, _chat(*[_user(long_text)] * 3)),
        ("as many messages as allowed", CHAT_PATH, _chat(*[_user("hi")] * LIMITS.messages)),
        ("calls and results", CHAT_PATH, _chat(_user("q"), *pairs)),
        ("long unbroken runs", CHAT_PATH, _chat(_user(f"{run}1" * LIMITS.long_runs))),
        ("runs just below what is counted", CHAT_PATH, _chat(_user(("a" * 255 + "1") * 4000))),
        (
            "as many tools as allowed",
            CHAT_PATH,
            _chat(_user("q"), tools=[_tool(i, _wide_schema(300)) for i in range(128)]),
        ),
        ("choices, stops and biases", CHAT_PATH, _chat(_user("q"), n=16, stop=["x" * 256] * 4, logit_bias=bias)),
        ("empty arrays", CHAT_PATH, _chat(_user("q"), metadata=nested)),
        ("a megabyte of text", "/v1/completions", {"model": "tiny", "prompt": long_text}),
        ("token ids", "/v1/completions", {"model": "tiny", "prompt": ids, "max_tokens": 1}),
        ("many prompts", "/v1/completions", {"model": "tiny", "prompt": ["a " * 500] * 64, "max_tokens": 1}),
        ("a megabyte of text", "/v1/responses", {"model": "tiny", "input": long_text}),
        ("as many items as allowed", "/v1/responses", {"model": "tiny", "input": [_user("hi")] * LIMITS.messages}),
        ("a megabyte of text", "/tokenize", {"model": "tiny", "prompt": long_text}),
        ("as many messages as allowed", "/tokenize", {"model": "tiny", "messages": [_user("hi")] * LIMITS.messages}),
        ("token ids", "/detokenize", {"model": "tiny", "tokens": ids}),
    ]


def refused_requests() -> list[tuple[str, str, dict[str, Any]]]:
    """Requests of facts that once took seconds to minutes; each must be refused with status 400."""
    run = "a" * LIMITS.run_characters
    return [
        ("quadratic guard", CHAT_PATH, _chat(_user((run[:-1] + "1") * 40))),
        ("one long run", CHAT_PATH, _chat(_user("a" * 120_000))),
        ("a run in a tool's description", CHAT_PATH, _chat(_user("q"), tools=[_described_tool("a" * 120_000)])),
        ("a run in a tool's schema", CHAT_PATH, _chat(_user("q"), tools=[_tool(0, {"title": "a" * 120_000})])),
        ("60,000 turns", CHAT_PATH, _chat(*[_user("hi")] * 60_000)),
        ("10,000 calls", CHAT_PATH, _chat(_user("q"), *(m for n in range(10_000) for m in _call(n)))),
        ("200,000 biases", CHAT_PATH, _chat(_user("q"), logit_bias={str(i): 1 for i in range(200_000)})),
        ("a million token ids", "/detokenize", {"model": "tiny", "tokens": [1] * 1_000_000}),
        ("a million choices", CHAT_PATH, _chat(_user("q"), n=1_000_000)),
        ("deep schema", CHAT_PATH, _chat(_user("q"), tools=[_tool(0, _deep(300))])),
        ("200,000 wrong calls", CHAT_PATH, _chat({"role": "assistant", "tool_calls": [False] * 200_000})),
        ("200,000 wrong parts", CHAT_PATH, _chat({"role": "user", "content": [0] * 200_000})),
        ("200,000 wrong stops", CHAT_PATH, _chat(_user("q"), stop=[0] * 200_000)),
        ("100,000 unknown fields", CHAT_PATH, _chat(_user("q"), **{f"k{i}": 0 for i in range(100_000)})),
        ("100,000 wrong values", CHAT_PATH, _chat(_user("q"), metadata={f"k{i}": 0 for i in range(100_000)})),
        ("200,000 wrong prompts", "/v1/completions", {"model": "tiny", "prompt": [False] * 200_000}),
        ("200,000 wrong items", "/v1/responses", {"model": "tiny", "input": [False] * 200_000}),
    ]


def _described_tool(description: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "description": description}}


def _deep(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"properties": {"x": schema}}
    return schema
