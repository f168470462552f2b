"""Bodies that are too large or not JSON are refused."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from serve_apps.http_front.bodies import MAX_BODY_BYTES


async def test_a_huge_body_is_refused_before_it_is_read_in(tiny_client: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 4 * MAX_BODY_BYTES:
            sent += 2**20
            yield b" " * 2**20

    refused = await tiny_client.post("/v1/chat/completions", content=endless())
    assert (refused.status_code, refused.json()["error"]["message"]) == (413, "The request body is larger than 16 MiB.")


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
    response = await tiny_client.post("/v1/chat/completions", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
