"""What the SDKs' tests ask about the weather, and the model's replies as harmony text."""

from __future__ import annotations

from typing import Any

import pydantic
from langchain_core.tools import tool

_THOUGHT = "<|channel|>analysis<|message|>Think.<|end|><|start|>assistant"
CALL = f'{_THOUGHT}<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{{"city": "Oslo"}}<|call|>'
ANSWER = f"{_THOUGHT}<|channel|>final<|message|>Sunny in Oslo.<|return|>"
VERDICT = f'{_THOUGHT}<|channel|>final<|message|>{{"sunny": true, "wind": 3}}<|return|>'

FUNCTION: dict[str, Any] = {
    "name": "weather",
    "description": "Weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
CHAT_TOOL: Any = {"type": "function", "function": FUNCTION}
"""The function as chat completions take it."""
RESPONSES_TOOL: Any = {"type": "function", **FUNCTION, "strict": True}
"""The function as /v1/responses takes it."""
QUESTION: Any = [{"role": "user", "content": "Weather in Oslo?"}]


class Verdict(pydantic.BaseModel):
    """The schema of a structured answer."""

    sunny: bool
    wind: int = pydantic.Field(ge=0, le=9)


@tool
def weather(city: str) -> str:
    """Weather of a city."""
    return f"sunny in {city}"
