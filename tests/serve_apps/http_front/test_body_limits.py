"""Each limit of a request's content is applied on every route, with the field and both numbers in the refusal."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.api.routes import ApiOptions, create_api
from serve_apps.http_front.body_limits import check_content, json_depth, text_length
from tests.serve_apps.api_client import ANSWER, CHAT
from tests.serve_apps.conftest import ModelFactory
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.configs.serve import HttpConfig
from tuneyard.core.errors import RequestError

LIMITS = HttpLimits(
    messages=3, message_characters=2000, characters=5000, tools=2, schema_bytes=200, schema_depth=4, json_depth=12,
    choices=2, prompts=2, stop_strings=2, stop_characters=8, logit_bias_entries=3, token_ids=5,
)  # fmt: skip


def tool(parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": parameters}}


def nested(depth: int) -> Any:
    return {"x": nested(depth - 1)} if depth > 1 else {}


MESSAGE = {"role": "user", "content": "hi"}
BEYOND: list[tuple[dict[str, Any], str | None, str]] = [
    ({"messages": [MESSAGE] * 4}, "messages", "it has 4 items; the number must be at most 3 (http.limits.messages)"),
    ({"input": [MESSAGE] * 4}, "input", "it has 4 items; the number must be at most 3 (http.limits.messages)"),
    ({"messages": [MESSAGE, {"role": "user", "content": "a " * 1001}]}, "messages.1", "has 2,017 characters"),
    ({"prompt": "a " * 1001}, "prompt", "has 2,002 characters; the number must be at most 2,000"),
    ({"messages": [{"role": "user", "content": "b " * 900}] * 3}, None, "has 5,4"),
    ({"tools": [tool({})] * 3}, "tools", "it has 3 items; the number must be at most 2 (http.limits.tools)"),
    ({"tools": [tool({"x": "y" * 200})]}, "tools.0.function.parameters", "has 208 bytes"),
    ({"tools": [tool(nested(5))]}, "tools.0.function.parameters", "nests 5 arrays and objects in each other"),
    ({"tools": [{"type": "function", "parameters": nested(5)}]}, "tools.0.parameters", "nests 5 arrays"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": nested(5)}}},
        "response_format.json_schema.schema",
        "nests 5 arrays",
    ),
    ({"text": {"format": {"schema": {"x": "y" * 200}}}}, "text.format.schema", "has 208 bytes"),
    ({"metadata": nested(12)}, None, "nests 13 arrays and objects in each other; the number must be at most 12"),
    ({"n": 3}, "n", "Invalid value for 'n': 3; the number must be at most 2 (http.limits.choices)"),
    ({"stop": ["a", "b", "c"]}, "stop", "it has 3 items; the number must be at most 2 (http.limits.stop_strings)"),
    ({"stop": "a" * 9}, "stop", "has 9 characters; the number must be at most 8 (http.limits.stop_characters)"),
    ({"stop": ["a", "b" * 9]}, "stop", "has 9 characters"),
    ({"logit_bias": {str(i): 1 for i in range(4)}}, "logit_bias", "at most 3 (http.limits.logit_bias_entries)"),
    ({"tokens": [1] * 6}, "tokens", "it has 6 items; the number must be at most 5 (http.limits.token_ids)"),
    ({"prompt": [1] * 6}, "prompt", "it has 6 items; the number must be at most 5 (http.limits.token_ids)"),
    ({"prompt": [[1] * 6]}, "prompt", "it has 6 items; the number must be at most 5 (http.limits.token_ids)"),
    ({"prompt": ["a", "b", "c"]}, "prompt", "times 'n' make 3 answers; the number must be at most 2 (http.limits."),
    ({"prompt": ["a", "b"], "n": 2}, "prompt", "times 'n' make 4 answers; the number must be at most 2"),
]


@pytest.mark.parametrize(("body", "param", "message"), BEYOND)
def test_more_than_a_limit_is_refused(body: dict[str, Any], param: str | None, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_content(body, LIMITS)
    assert (caught.value.param, caught.value.code) == (param, "limit_exceeded")
    assert message in caught.value.message


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"])
async def test_every_route_applies_the_limits(make_model: ModelFactory, path: str) -> None:
    api = create_api(make_model(ANSWER), ApiOptions(http=HttpConfig(allowed_hosts=("*",), limits=LIMITS)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://test") as client:
        for body, param, _ in BEYOND:
            refused = await client.post(path, json=CHAT | body)
            error = refused.json()["error"]
            assert (refused.status_code, error["code"], error["param"]) == (400, "limit_exceeded", param)


def test_the_limits_themselves_are_allowed() -> None:
    check_content(
        {
            "messages": [MESSAGE] * 3,
            "tools": [tool(nested(4))] * 2,
            "stop": ["a" * 8] * 2,
            "n": 1,
            "logit_bias": {"1": 1, "2": 1, "3": 1},
            "prompt": [[1] * 5] * 2,
        },
        LIMITS,
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def depth_by_definition(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    children = value.values() if isinstance(value, dict) else value
    return 1 + max((depth_by_definition(child) for child in children), default=0)


def length_by_definition(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(name) + length_by_definition(item) for name, item in value.items())
    return sum(map(length_by_definition, value)) if isinstance(value, list) else 0


@given(json_values)
def test_depth_and_length_are_those_of_their_definitions(value: Any) -> None:
    assert json_depth(value) == depth_by_definition(value)
    assert text_length(value) == length_by_definition(value)


@given(
    st.dictionaries(
        st.sampled_from(["messages", "input", "tools", "stop", "logit_bias", "tokens", "n", "best_of", "prompt", "text",
                         "response_format", "x"]),
        json_values,
    )
)  # fmt: skip
def test_content_of_any_type_raises_nothing_but_a_request_error(body: dict[str, Any]) -> None:
    try:
        check_content(body, LIMITS)
    except RequestError as e:
        assert "http.limits." in e.message
