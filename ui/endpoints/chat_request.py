"""One request for an answer, and its body in OpenAI's form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ui.endpoints.served_models import ServedModel


@dataclass(frozen=True)
class ChatRequest:
    """A conversation whose next answer is wanted. A field of None or empty is not sent: the server's default holds."""

    model: ServedModel
    messages: Sequence[Mapping[str, Any]]
    """Messages in OpenAI's form."""
    temperature: float | None = 1.0
    top_p: float | None = 1.0
    max_tokens: int | None = None
    reasoning_effort: str | None = None
    """None: the server uses the effort that the model was trained with."""
    seed: int | None = None
    stop: Sequence[str] = ()
    """Texts that end the answer."""
    json_schema: Mapping[str, Any] | None = None
    """JSON schema that the answer must match."""
    tools: Sequence[Mapping[str, Any]] = ()
    """Function tools in OpenAI's form."""

    def body(self) -> dict[str, Any]:
        """The body of POST /chat/completions, streamed, with usage."""
        optional = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_completion_tokens": self.max_tokens,
            "reasoning_effort": self.reasoning_effort,
            "seed": self.seed,
            "stop": list(self.stop) or None,
            "response_format": self._response_format(),
            "tools": list(self.tools) or None,
        }
        return {
            "model": self.model.model_id,
            "messages": list(self.messages),
            "stream": True,
            "stream_options": {"include_usage": True},
            **{name: value for name, value in optional.items() if value is not None},
        }

    def _response_format(self) -> dict[str, Any] | None:
        if self.json_schema is None:
            return None
        return {"type": "json_schema", "json_schema": {"name": "answer", "schema": dict(self.json_schema)}}
