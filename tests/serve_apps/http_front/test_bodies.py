"""Bodies that are too large or not JSON are refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.api.routes import ApiOptions, create_api
from serve_apps.http_front.bodies import decode_body
from tests.serve_apps.api_client import ANSWER
from tests.serve_apps.conftest import ModelFactory
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.configs.serve import HttpConfig
from tuneyard.core.errors import RequestError

JSON = {"Content-Type": "application/json"}
MAX_BODY_BYTES = HttpLimits().body_bytes


async def test_a_huge_body_is_refused_before_it_is_read_in(tiny_client: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 4 * MAX_BODY_BYTES:
            sent += 2**20
            yield b" " * 2**20

    refused = await tiny_client.post("/v1/chat/completions", content=endless(), headers=JSON)
    message = "The request body is larger than 4,194,304 bytes (http.limits.body_bytes)."
    assert (refused.status_code, refused.json()["error"]["message"]) == (413, message)
    assert sent <= MAX_BODY_BYTES + 2**21


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b'"x"',
        b"\xff",
        b"[" * 50_000,
        b'{"model": "tiny", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "tiny", "messages": [{"role": "user", "content": "x"}], "logit_bias": {"5": NaN}}',
    ],
)
async def test_a_body_that_is_no_json_object(tiny_client: httpx.AsyncClient, body: bytes) -> None:
    response = await tiny_client.post("/v1/chat/completions", content=body, headers=JSON)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_a_body_that_stops_arriving_is_refused(make_model: ModelFactory) -> None:
    limits = HttpLimits(body_timeout_s=0.05)
    api = create_api(make_model(ANSWER), ApiOptions(http=HttpConfig(allowed_hosts=("*",), limits=limits)))

    async def half() -> AsyncIterator[bytes]:
        yield b'{"model": "tiny",'
        await asyncio.Event().wait()

    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://test") as client:
        refused = await client.post("/v1/chat/completions", content=half(), headers=JSON)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (408, "body_timeout")
    assert error["message"].startswith("Of the request's body, 17 bytes had arrived after 0.05 s")


def test_json_with_too_many_values_is_refused_before_it_is_decoded() -> None:
    limits = HttpLimits(json_values=100, json_containers=50)
    assert decode_body(b'["' + b"[,{" * 1000 + b'", "\\"[[[["]', limits) == ["[,{" * 1000, '"[[[[']
    with pytest.raises(
        RequestError, match=r"has 102 values; the number must be at most 100 \(http.limits.json_values\)"
    ):
        decode_body(json.dumps([0] * 101).encode(), limits)
    with pytest.raises(RequestError, match=r"has 52 arrays and objects; .* at most 50 \(http.limits.json_containers\)"):
        decode_body(json.dumps([{}] * 51).encode(), limits)


@given(st.binary(max_size=60) | st.text('[]{}",\\:a1', max_size=60).map(str.encode))
def test_no_bytes_raise_anything_but_a_request_error(data: bytes) -> None:
    for limits in (HttpLimits(), HttpLimits(json_values=1)):
        try:
            decode_body(data, limits)
        except RequestError as e:
            assert e.message


def test_a_string_without_an_end_is_searched_once() -> None:
    """From each quote of such a body the end of the string was searched again: hours of work for 4 MB."""
    limits = HttpLimits()
    body = b"[" * (limits.json_containers + 1) + b'\\"' * 400_000
    with pytest.raises(RequestError):
        decode_body(body, limits)
