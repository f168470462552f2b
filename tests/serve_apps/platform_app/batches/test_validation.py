"""What is wrong with an input file is said by line, in OpenAI's form."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.platform_app.batches.input.input_lines import InputLine
from serve_apps.platform_app.batches.input.input_rows import RowError, parse_row
from serve_apps.platform_app.batches.input.validation import MAX_ERRORS, InputValidator
from tuneyard.configs.http_limits import HttpLimits

CHAT = "/v1/chat/completions"
LIMITS = HttpLimits(body_bytes=4096)


def row(custom_id: Any = "r1", **changes: Any) -> dict[str, Any]:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body} | changes


def body(**changes: Any) -> dict[str, Any]:
    return row(body=row()["body"] | changes)


def validate(rows: Iterable[Any], max_requests: int = 1000) -> InputValidator:
    validator = InputValidator(CHAT, LIMITS, max_requests)
    lines = [item if isinstance(item, bytes | None) else json.dumps(item).encode() for item in rows]
    validator.feed(InputLine(number, content) for number, content in enumerate(lines, 1))
    return validator


def errors(*rows: Any, max_requests: int = 1000) -> list[tuple[str, int | None, str | None]]:
    found = validate(rows, max_requests).finish()
    assert all(error.message.endswith(".") for error in found)
    return [(error.code, error.line, error.param) for error in found]


def test_valid_rows_are_counted() -> None:
    validator = validate([row("a"), b"", row("b"), b" \r"])
    assert validator.finish() == []
    assert (validator.total, validator.model, validator.first_line) == (2, "tiny", 1)


@pytest.mark.parametrize(
    ("wrong", "code", "param"),
    [
        (b'{"custom_id": "a"', "invalid_json_line", None),
        (b"[]", "invalid_json_line", None),
        (b"\xff\xfe", "invalid_json_line", None),
        (b'{"custom_id": NaN}', "invalid_json_line", None),
        (b"[" * 4000, "invalid_json_line", None),
        (None, "line_too_long", None),
        (row(None), "missing_required_parameter", "custom_id"),
        (row(7), "invalid_value", "custom_id"),
        (row(""), "invalid_value", "custom_id"),
        (row("x" * 513), "invalid_value", "custom_id"),
        (row(method="GET"), "invalid_method", "method"),
        (row(url="/v1/completions"), "mismatched_url", "url"),
        (row(url=["x"]), "mismatched_url", "url"),
        (row(body=None), "missing_required_parameter", "body"),
        (row(body=[]), "invalid_value", "body"),
        (row(params={}), "unknown_parameter", "params"),
        (body(model=None), "missing_required_parameter", "body.model"),
        (body(model=3), "invalid_value", "body.model"),
        (body(model="other"), "mismatched_model", "body.model"),
        (body(stream=True), "invalid_value", "body.stream"),
        (row("first"), "duplicate_custom_id", "custom_id"),
    ],
)
def test_each_mistake_is_named(wrong: Any, code: str, param: str | None) -> None:
    assert errors(row("first"), b"", wrong, row("last")) == [(code, 3, param)]


def test_mistakes_of_the_whole_file() -> None:
    assert errors() == [("empty_file", None, None)]
    assert errors(b"", b"  ") == [("empty_file", None, None)]
    assert errors(*(row(str(n)) for n in range(3)), max_requests=3) == []
    assert errors(*(row(str(n)) for n in range(4)), max_requests=3) == [("too_many_requests", None, None)]
    assert errors(*[b""] * 1007, max_requests=3) == [("too_many_requests", None, None)]


def test_many_errors_end_the_reading() -> None:
    validator = validate([b"x"] * 10_000, max_requests=50_000)
    assert validator.is_over
    assert [error.line for error in validator.finish()] == list(range(1, MAX_ERRORS + 1))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.binary(max_size=60)
    | JSON.map(json.dumps).map(str.encode)
    | st.builds(row, JSON, method=JSON, url=JSON, body=JSON).map(json.dumps).map(str.encode)
    | st.builds(row, st.text(max_size=5), body=st.dictionaries(st.sampled_from(["model", "stream"]), JSON)).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_any_line_is_a_row_or_an_error(content: bytes) -> None:
    line = InputLine(3, content)
    try:
        parsed = parse_row(line, CHAT, LIMITS)
    except RowError as e:
        assert e.error.line == 3
        assert e.error.message
        assert e.error.model_dump_json()
        return
    assert isinstance(parsed.model, str)
    assert parsed.custom_id
    assert json.loads(content)["body"] == parsed.body
