"""Every answer carries a request id and the API's own headers."""

from __future__ import annotations

import httpx


async def test_headers_of_every_answer(tiny_client: httpx.AsyncClient) -> None:
    given = await tiny_client.get("/v1/models", headers={"X-Request-Id": "abc-123"})
    assert (given.headers["x-request-id"], given.headers["x-tuneyard-run"]) == ("abc-123", "r1")
    new = await tiny_client.post("/v1/chat/completions", json={}, headers={"X-Request-Id": "no\ttabs"})
    assert len(new.headers["x-request-id"]) == 32
    assert new.status_code == 400
