"""What real clients send: each case is named after what it sends, and answered as OpenAI's API answers it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from serve_apps.api.routes import ApiOptions, create_api
from serve_apps.engines.engine import OPTIONS
from tests.serve_apps.api_client import ANSWER, CHAT, TOOL, client_of, post
from tests.serve_apps.conftest import ModelFactory

USER = {"role": "user", "content": "a"}
SYSTEM = {"role": "system", "content": "s"}


def call(call_id: str = "c1", **more: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "weather", "arguments": "{}"}, **more}


def result(call_id: str = "c1", **more: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": f"of {call_id}", **more}


def called(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls or (call(),))}


def tool(strict: Any) -> dict[str, Any]:
    return {"type": "function", "function": TOOL["function"] | {"strict": strict}}


OWN_ANSWER: dict[str, Any] = {
    "role": "assistant",
    "content": "Hello.",
    "refusal": None,
    "annotations": [],
    "audio": None,
    "function_call": None,
    "tool_calls": None,
    "reasoning_content": "Think.",
}
TAKEN: dict[str, dict[str, Any]] = {
    "strict true": {"tools": [tool(True)]},
    "strict false": {"tools": [tool(False)]},
    "strict null, description null": {
        "tools": [{"type": "function", "function": {"name": "now", "strict": None, "description": None}}]
    },
    "the SDK's own message": {"messages": [USER, OWN_ANSWER, USER]},
    "a structured answer": {"messages": [USER, OWN_ANSWER | {"parsed": {"sunny": True}}, USER]},
    "an answer's fields in its part": {
        "messages": [
            USER,
            {
                "role": "assistant",
                "content": [{"type": "text", "text": "Hello.", "role": "assistant", "refusal": None}],
            },
            USER,
        ]
    },
    "prompt_cache_breakpoint": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "a", "prompt_cache_breakpoint": {}}]}]
    },
    "empty audio and function_call": {"messages": [USER, OWN_ANSWER | {"audio": {}, "function_call": {}}, USER]},
    "a refusal as text": {"messages": [USER, {"role": "assistant", "content": None, "refusal": "No."}, USER]},
    "refusal parts": {
        "messages": [USER, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, USER]
    },
    "name on a result": {"messages": [USER, called(), result(name="weather")], "tools": [TOOL]},
    "name on users and systems": {"messages": [SYSTEM | {"name": "rules"}, USER | {"name": "bob"}]},
    "user-user": {"messages": [USER, USER]},
    "tool-user": {"messages": [USER, called(), result(), USER], "tools": [TOOL]},
    "two systems": {"messages": [SYSTEM, SYSTEM, USER]},
    "system last": {"messages": [USER, SYSTEM]},
    "only a system": {"messages": [SYSTEM]},
    "assistant first": {"messages": [{"role": "assistant", "content": "Hi."}, USER]},
    "assistant last": {"messages": [USER, {"role": "assistant", "content": "Hi."}]},
    "two calls, results in any order": {
        "messages": [USER, called(call("c1"), call("c2")), result("c2"), result("c1")],
        "tools": [TOOL],
    },
    "parallel_tool_calls": {"tools": [TOOL], "parallel_tool_calls": True},
    "prompt_cache_key": {"prompt_cache_key": "s1"},
    "safety_identifier": {"safety_identifier": "u1"},
    "service_tier": {"service_tier": "flex"},
    "store false": {"store": False},
    "metadata and user": {"metadata": {"a": "b"}, "user": "u"},
    "verbosity medium": {"verbosity": "medium"},
    "top_k -1": {"top_k": -1},
    "index of a call": {"messages": [USER, called(call(index=0)), result()], "tools": [TOOL]},
    "reasoning": {"messages": [USER, {"role": "assistant", "content": "x", "reasoning": "y"}, USER]},
    "parsed arguments": {
        "messages": [
            USER,
            called(call(function={"name": "weather", "arguments": "{}", "parsed_arguments": {}})),
            result(),
        ],
        "tools": [TOOL],
    },
    **{f"effort {effort}": {"reasoning_effort": effort} for effort in ("none", "minimal", "xhigh", "low")},
}


@pytest.mark.parametrize("change", TAKEN.values(), ids=TAKEN.keys())
async def test_taken(make_model: ModelFactory, change: dict[str, Any]) -> None:
    async with client_of(make_model(ANSWER, options=OPTIONS)) as client:
        assert (await post(client, "/v1/chat/completions", CHAT | change))["choices"][0]["finish_reason"] == "stop"


async def test_include_obfuscation(make_model: ModelFactory) -> None:
    options = {"include_usage": True, "include_obfuscation": False}
    async with client_of(make_model(ANSWER)) as client:
        answered = await client.post("/v1/chat/completions", json=CHAT | {"stream": True, "stream_options": options})
    assert answered.status_code == 200


async def rendered(make_model: ModelFactory, **change: Any) -> str:
    """The prompt of a request, as text."""
    api = create_api(make_model(ANSWER), ApiOptions(admin_key="secret"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://test") as client:
        headers = {"Authorization": "Bearer secret"}
        answered = await client.post("/v1/chat/completions/render", json=CHAT | change, headers=headers)
    assert answered.status_code == 200, answered.text
    return str(answered.json()["text"])


async def test_labels_and_nulls_change_no_token(make_model: ModelFactory) -> None:
    plain = await rendered(make_model, messages=[USER, {"role": "assistant", "content": "Hello."}, USER])
    assert await rendered(make_model, messages=[USER | {"name": "bob"}, OWN_ANSWER, USER]) == plain
    one_call = [USER, {"role": "assistant", "tool_calls": [call()]}, {"role": "tool", "content": "of c1"}]
    labelled = [USER, called(call(index=0)) | {"reasoning": ""}, result(name="weather")]
    assert await rendered(make_model, messages=labelled) == await rendered(make_model, messages=one_call)


async def test_efforts_are_the_nearest_that_the_model_has(make_model: ModelFactory) -> None:
    for sent, level in {"none": "low", "minimal": "low", "xhigh": "high", "medium": "medium"}.items():
        assert f"Reasoning: {level}" in await rendered(make_model, reasoning_effort=sent)


async def test_several_calls_are_rendered_each_with_its_result(make_model: ModelFactory) -> None:
    messages = [USER, called(call("c1"), call("c2")), result("c2"), result("c1")]
    in_turn = [USER, called(call("c1")), result("c1"), called(call("c2")), result("c2")]
    text = await rendered(make_model, messages=messages)
    assert text == await rendered(make_model, messages=in_turn)
    assert text.index("of c1") < text.index("of c2")


async def test_the_order_of_roles_is_rendered_as_given(make_model: ModelFactory) -> None:
    text = await rendered(make_model, messages=[{"role": "assistant", "content": "one"}, USER, USER, SYSTEM])
    assert text.index("one") < text.index("user<|message|>a") < text.index("developer<|message|>")


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "verbosity low": ({"verbosity": "low"}, "verbosity", 'send "medium"'),
    "store true": ({"store": True}, "store", "not supported"),
    "effort wrong": ({"reasoning_effort": "huge"}, "reasoning_effort", "must be 'low'"),
    "max_tokens true": ({"max_tokens": True}, "max_tokens", "must be an integer"),
    "stream text": ({"stream": "true"}, "stream", "must be a boolean"),
    "temperature text": ({"temperature": "1"}, "temperature", "must be a number"),
    "n 1.0": ({"n": 1.5}, "n", "must be an integer"),
    "strict text": ({"tools": [tool("yes")]}, "tools.0.function.strict", "must be a boolean"),
    "a result without id": (
        {"messages": [USER, called(call("c1"), call("c2")), result("c1"), {"role": "tool", "content": "x"}]},
        "messages.3.tool_call_id",
        "no tool_call_id",
    ),
    "a result twice": (
        {"messages": [USER, called(call("c1"), call("c2")), result("c1"), result("c1")]},
        "messages.3.tool_call_id",
        "'c1' a second time",
    ),
    "an open call at the end": ({"messages": [USER, called(call("c1"))]}, "messages.1.tool_calls", "(id 'c1')"),
    "audio of an answer": ({"messages": [USER, OWN_ANSWER | {"audio": {"id": "x"}}]}, "messages.1.audio", "null"),
    "allowed tools unknown": (
        {
            "tools": [TOOL],
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "x"}}]},
            },
        },
        "tool_choice",
        "names 'x'; declared: weather",
    ),
}


@pytest.mark.parametrize(("change", "param", "message"), REFUSED.values(), ids=REFUSED.keys())
async def test_refused_by_name(make_model: ModelFactory, change: dict[str, Any], param: str, message: str) -> None:
    async with client_of(make_model(ANSWER, options=OPTIONS)) as client:
        refused = await client.post("/v1/chat/completions", json=CHAT | change)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, param)
    assert message in error["message"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": [{"role": "user", "content": "word " * 3000}]}, "messages"),
        ({"messages": [{"role": "user", "content": "a b " * 80_000}]}, "messages"),
        ({"max_tokens": 4000}, "max_tokens"),
    ],
)
async def test_context_overflow_has_openais_words(make_model: ModelFactory, change: dict[str, Any], param: str) -> None:
    """LiteLLM's context_window_fallbacks look for them."""
    async with client_of(make_model(ANSWER)) as client:
        refused = await client.post("/v1/chat/completions", json=CHAT | change)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"]) == (400, param, "context_length_exceeded")
    assert error["message"].startswith("This model's maximum context length is 2048 tokens. However, ")


UNENFORCEABLE: dict[str, dict[str, Any]] = {
    "uniqueItems": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
    "propertyNames": {"type": "object", "propertyNames": {"type": "string"}},
    "not": {"not": {"type": "string"}},
    **{name: {"type": "string", "format": name} for name in ("path", "password", "binary", "jwt")},
}


@pytest.mark.parametrize("keyword", UNENFORCEABLE)
async def test_tool_schemas_are_enforced_as_far_as_possible(tiny_client: httpx.AsyncClient, keyword: str) -> None:
    parameters = {"type": "object", "properties": {"x": UNENFORCEABLE[keyword]}}
    function = {"name": "store", "parameters": parameters}
    ok = {"type": "function", "function": {"name": "ok"}}
    body = CHAT | {"max_tokens": 3, "tools": [ok, {"type": "function", "function": function}]}
    assert (await post(tiny_client, "/v1/chat/completions", body))["choices"][0]["finish_reason"] == "length"
    strict = body | {"tools": [ok, {"type": "function", "function": function | {"strict": True}}]}
    for refused_body in (strict, body | {"tool_choice": "required"}):
        refused = await tiny_client.post("/v1/chat/completions", json=refused_body)
        error = refused.json()["error"]
        assert (refused.status_code, error["param"]) == (400, "tools.1.function.parameters")
        assert "'store'" in error["message"]
        assert f"{keyword!r} at /properties/x" in error["message"]


OVERLAPPING = {"oneOf": [{"enum": ["all"]}, {"type": "string", "pattern": "^[1-9][0-9]*$"}]}
"""Of Qwen Code's tool `agent`: the branches exclude each other, which llguidance does not see."""


@pytest.mark.parametrize(
    ("schema", "reason"),
    [(OVERLAPPING, "a 'oneOf' whose branches may match at the same time is not supported"), ({"type": "file"}, "file")],
)
async def test_a_tool_whose_schema_has_no_grammar_is_named(
    tiny_client: httpx.AsyncClient, schema: dict[str, Any], reason: str
) -> None:
    ok = {"type": "function", "function": {"name": "ok"}}
    parameters = {"type": "object", "properties": {"x": schema}, "required": ["x"]}
    tools = [ok, {"type": "function", "function": {"name": "agent", "parameters": parameters}}]
    body = CHAT | {"max_tokens": 3, "tools": tools}
    form = {"type": "json_schema", "json_schema": {"name": "v", "schema": {"type": "object"}}}
    if schema is OVERLAPPING:
        await post(tiny_client, "/v1/chat/completions", body)
    for more in ({"tool_choice": "required"}, {"tool_choice": "required", "response_format": form}):
        refused = await tiny_client.post("/v1/chat/completions", json=body | more)
        error = refused.json()["error"]
        assert (refused.status_code, error["param"]) == (400, "tools.1.function.parameters")
        assert error["message"].startswith("The schema of the tool 'agent' cannot be enforced: ")
        assert reason in error["message"]
    form["json_schema"]["schema"] = parameters
    refused = await tiny_client.post("/v1/chat/completions", json=CHAT | {"response_format": form, "tools": [ok]})
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, "response_format")
    assert error["message"].startswith("The schema cannot be enforced: ")
    assert " at " not in error["message"].partition(reason)[0]


async def test_allowed_tools_are_the_only_ones_that_can_be_called(make_model: ModelFactory) -> None:
    grammars: list[str] = []

    class Recording:
        def __init__(self, engine: Any) -> None:
            self._engine = engine

        def __getattr__(self, name: str) -> Any:
            return getattr(self._engine, name)

        def generate(self, request: Any) -> Any:
            grammars.append(request.grammar)
            return self._engine.generate(request)

    model = make_model(ANSWER, options=OPTIONS)
    model.engine = Recording(model.engine)
    tools = [TOOL, {"type": "function", "function": {"name": "time"}}]
    async with client_of(model) as client:
        for mode in ("auto", "required"):
            allowed = {"mode": mode, "tools": [{"type": "function", "function": {"name": "time"}}]}
            choice = {"type": "allowed_tools", "allowed_tools": allowed}
            await post(client, "/v1/chat/completions", CHAT | {"tools": tools, "tool_choice": choice})
    auto, required = grammars
    assert "functions.time" in auto
    assert "functions.weather" not in auto
    assert "ending: final | call0" in auto
    assert "ending: call0" in required
