"""Requests to a served model's API in this process, without a port."""

from __future__ import annotations

import json
from typing import Any

import httpx

from serve_apps.api.routes import create_api
from serve_apps.generation.served_model import ServedModel

THOUGHT = "<|channel|>analysis<|message|>Think.<|end|><|start|>assistant"
ANSWER = f"{THOUGHT}<|channel|>final<|message|>Héllo \U0001f389!<|return|>"
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "temperature": 0}
"""Body of a chat completion request."""

TEXT = "What does error E47 mean?"


def client_of(model: ServedModel) -> httpx.AsyncClient:
    """A client of the model's API."""
    transport = httpx.ASGITransport(create_api(model), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


def completion(**more: Any) -> dict[str, Any]:
    """Body of a text completion request for the model `tiny`."""
    return {"model": "tiny", "prompt": TEXT, "max_tokens": 12, "temperature": 0} | more


async def post(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a successful answer."""
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def stream_chat(client: httpx.AsyncClient, body: dict[str, Any]) -> list[Any]:
    """The events of a streamed chat completion, decoded; the last one of a complete stream is "[DONE]"."""
    response = await client.post("/v1/chat/completions", json=body | {"stream": True})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    return decode_events(response.text)


def decode_events(text: str) -> list[Any]:
    """The events of a stream, decoded, without comments; "[DONE]" stays as it is."""
    lines = [line.removeprefix("data: ") for line in text.split("\n") if line and not line.startswith(":")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]
