from __future__ import annotations

from ui.endpoints.chat_request import ChatRequest
from ui.endpoints.served_models import ServedModel

MODEL = ServedModel("smol", "http://a/v1")
MESSAGES = [{"role": "user", "content": "hello"}]


def test_what_is_not_set_is_not_sent() -> None:
    body = ChatRequest(MODEL, MESSAGES, temperature=None, top_p=None).body()
    assert body == {
        "model": "smol", "messages": MESSAGES, "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip


def test_every_setting_has_openais_name() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    request = ChatRequest(
        MODEL, MESSAGES, temperature=0, max_tokens=5, reasoning_effort="low", seed=0, stop=["END"],
        json_schema={"type": "object"}, tools=tools,
    )  # fmt: skip
    body = request.body()
    assert (body["temperature"], body["max_completion_tokens"], body["seed"], body["stop"]) == (0, 5, 0, ["END"])
    assert body["response_format"] == {
        "type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}},
    }  # fmt: skip
    assert body["tools"] == tools
