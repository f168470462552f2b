"""Chunks of a streamed answer as events."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from openai.types.chat import ChatCompletionChunk

from ui.endpoints.chat_errors import explain_during_answer
from ui.endpoints.chat_events import AnswerDelta, AnswerDone, ChatEvent, ReasoningDelta, ToolCallDelta

REASONING_FIELDS = ("reasoning_content", "reasoning")
"""Fields of a delta that hold reasoning, not in OpenAI's schema: DeepSeek's, and OpenRouter's, which vLLM sends too."""


class ChunkReader:
    """Converts chunks to events and collects what AnswerDone reports: usage, finish reason, times."""

    def __init__(self, started: float) -> None:
        """`started` is time.monotonic() when the request was sent."""
        self._started = started
        self._first_text: float | None = None
        self._finish_reason: str | None = None
        self._usage: Any = None
        self._last_chunk = started

    def events_of(self, chunk: ChatCompletionChunk) -> list[ChatEvent]:
        """The events of one chunk, in order."""
        self._usage = chunk.usage or self._usage
        self._last_chunk = time.monotonic()
        events: list[ChatEvent] = []
        for choice in chunk.choices[:1]:
            self._finish_reason = choice.finish_reason or self._finish_reason
            events.extend(_delta_events(choice.delta))
        if events and self._first_text is None:
            self._first_text = self._last_chunk
        return events

    def done(self, base_url: str) -> AnswerDone:
        """The last event. Raises ChatError for a stream that ended without a finish reason."""
        if self._finish_reason is None:
            raise explain_during_answer(None, base_url)
        return AnswerDone(
            finish_reason=self._finish_reason,
            prompt_tokens=self._usage.prompt_tokens if self._usage else None,
            completion_tokens=self._usage.completion_tokens if self._usage else None,
            first_token_s=None if self._first_text is None else self._first_text - self._started,
            total_s=self._last_chunk - self._started,
        )


def _delta_events(delta: Any) -> Iterator[ChatEvent]:
    if reasoning := next((text for name in REASONING_FIELDS if (text := getattr(delta, name, None))), None):
        yield ReasoningDelta(str(reasoning))
    if delta.content:
        yield AnswerDelta(delta.content)
    for call in delta.tool_calls or ():
        function = call.function
        yield ToolCallDelta(
            index=call.index,
            call_id=call.id or "",
            name=(function and function.name) or "",
            arguments=(function and function.arguments) or "",
        )
