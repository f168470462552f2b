"""AnswerWriter: the events of a stream, written into a conversation's node."""

from __future__ import annotations

import time
from dataclasses import asdict

from ui.chat.conversations.conversation import AnswerFacts, Node, ToolCall
from ui.endpoints.chat_events import (
    AnswerDelta,
    AnswerDone,
    AnsweredBy,
    ChatEvent,
    ReasoningDelta,
    ToolCallDelta,
)


class AnswerWriter:
    """Fills the node of an answer while it streams."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.started = time.monotonic()
        self._reasoning_since: float | None = None

    @property
    def size(self) -> int:
        """Grows with every change that is worth a redraw."""
        node = self.node
        return len(node.reasoning) + len(node.text) + sum(1 + len(call.arguments) for call in node.tool_calls)

    def add(self, event: ChatEvent) -> None:
        """Adds one event."""
        node = self.node
        match event:
            case AnsweredBy(lineage):
                node.facts = AnswerFacts(**asdict(lineage))
            case ReasoningDelta(text):
                self._reasoning_since = self._reasoning_since or time.monotonic()
                node.reasoning += text
            case AnswerDelta(text):
                self._end_reasoning()
                node.text += text
            case ToolCallDelta():
                self._end_reasoning()
                self._add_to_call(event)
            case AnswerDone():
                self._end_reasoning()
                node.facts = node.facts.model_copy(
                    update={
                        "finish_reason": event.finish_reason,
                        "prompt_tokens": event.prompt_tokens,
                        "completion_tokens": event.completion_tokens,
                        "first_token_s": event.first_token_s,
                        "tokens_per_s": event.tokens_per_s,
                    }
                )

    def end(self, state: str, error: str = "") -> None:
        """Marks the node as complete: `done`, `stopped` or `failed`."""
        self._end_reasoning()
        self.node.state = state  # type: ignore[assignment]
        self.node.error = error

    def _end_reasoning(self) -> None:
        if self._reasoning_since is not None and self.node.reasoning_s is None:
            self.node.reasoning_s = round(time.monotonic() - self._reasoning_since, 2)

    def _add_to_call(self, delta: ToolCallDelta) -> None:
        calls = self.node.tool_calls
        while len(calls) <= delta.index:
            # An id of our own where an endpoint gives none: results name the call that they answer.
            calls.append(ToolCall(call_id=f"call_{self.node.id}_{len(calls)}"))
        call = calls[delta.index]
        call.call_id = delta.call_id or call.call_id
        call.name += delta.name
        call.arguments += delta.arguments
