"""OutputEvents: the pieces of a chat answer as the events of a response, and the output items that they make."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Iterator

from serve_apps.answers.chat_answer import ChatPiece
from tuneyard.api.wire.chat_answer import ContentLogprob
from tuneyard.api.wire.responses.answer import (
    ItemStatus,
    OutputCall,
    OutputItem,
    OutputMessage,
    OutputReasoning,
    OutputText,
    ReasoningText,
    SummaryText,
)
from tuneyard.api.wire.responses.events import (
    ArgumentsDelta,
    ArgumentsDone,
    ContentPartEvent,
    DeltaEvent,
    ItemEvent,
    ReasoningDelta,
    ReasoningDone,
    ResponseEvent,
    SummaryDelta,
    SummaryDone,
    SummaryPartEvent,
    TextDelta,
    TextDone,
)

OBFUSCATION_STEP = 32
"""Obfuscated deltas have a multiple of this many characters, padding included."""


class OutputEvents:
    """Feed it every piece with `add`, then call `close`; `items` are then the response's output.

    An item is open from its first piece until a piece of another kind, or of another call, comes. The events and the
    items say the same: an item is `added` empty, grows by its deltas, and is `done` as it stands in `items`.
    """

    def __init__(
        self,
        *,
        has_summary: bool = False,
        is_obfuscated: bool = False,
        make_id: Callable[[str], str] = lambda prefix: f"{prefix}_{uuid.uuid4().hex}",
    ) -> None:
        self.items: list[OutputItem] = []
        self._open: OutputItem | None = None
        self._has_summary = has_summary
        self._is_obfuscated = is_obfuscated
        self._make_id = make_id

    def add(self, piece: ChatPiece) -> Iterator[ResponseEvent]:
        """The events that the piece makes. Read all of them before the next call."""
        match piece.kind:
            case "reasoning":
                if piece.text:
                    yield from self._add_reasoning(piece.text)
            case "content":
                if piece.text or piece.logprobs:
                    yield from self._add_text(piece.text, piece.logprobs)
            case "call":
                assert piece.call_id is not None
                yield from self._begin(OutputCall(id=self._make_id("fc"), call_id=piece.call_id, name=piece.text))
            case "arguments":
                if piece.text:
                    assert isinstance(self._open, OutputCall)
                    self._open.arguments += piece.text
                    yield self._obfuscated(ArgumentsDelta(**self._place(self._open), delta=piece.text))

    def close(self, status: ItemStatus) -> Iterator[ResponseEvent]:
        """The events that end the open item with `status`; none if no item is open."""
        item, self._open = self._open, None
        if item is None:
            return
        item.status = status
        match item:
            case OutputMessage():
                part = item.content[0]
                yield TextDone(**self._place(item), text=part.text, logprobs=part.logprobs)
                yield ContentPartEvent(type="response.content_part.done", **self._place(item), part=part)
            case OutputReasoning() if item.summary:
                summary = item.summary[0]
                yield SummaryDone(**self._place(item), text=summary.text)
                yield SummaryPartEvent(type="response.reasoning_summary_part.done", **self._place(item), part=summary)
            case OutputReasoning():
                reasoning = item.content[0]
                yield ReasoningDone(**self._place(item), text=reasoning.text)
                yield ContentPartEvent(type="response.content_part.done", **self._place(item), part=reasoning)
            case OutputCall():
                yield ArgumentsDone(**self._place(item), name=item.name, arguments=item.arguments)
        yield ItemEvent(type="response.output_item.done", output_index=len(self.items) - 1, item=item)

    def _add_reasoning(self, text: str) -> Iterator[ResponseEvent]:
        item = self._open
        if not isinstance(item, OutputReasoning):
            item = OutputReasoning(id=self._make_id("rs"))
            yield from self._begin(item)
            if self._has_summary:
                item.summary.append(SummaryText())
                yield SummaryPartEvent(
                    type="response.reasoning_summary_part.added", **self._place(item), part=SummaryText()
                )
            else:
                item.content.append(ReasoningText())
                yield ContentPartEvent(type="response.content_part.added", **self._place(item), part=ReasoningText())
        if self._has_summary:
            item.summary[0].text += text
            yield self._obfuscated(SummaryDelta(**self._place(item), delta=text))
        else:
            item.content[0].text += text
            yield self._obfuscated(ReasoningDelta(**self._place(item), delta=text))

    def _add_text(self, text: str, logprobs: list[ContentLogprob]) -> Iterator[ResponseEvent]:
        item = self._open
        if not isinstance(item, OutputMessage):
            item = OutputMessage(id=self._make_id("msg"))
            yield from self._begin(item)
            item.content.append(OutputText())
            yield ContentPartEvent(type="response.content_part.added", **self._place(item), part=OutputText())
        item.content[0].text += text
        item.content[0].logprobs += logprobs
        yield self._obfuscated(TextDelta(**self._place(item), delta=text, logprobs=logprobs))

    def _begin(self, item: OutputItem) -> Iterator[ResponseEvent]:
        """Ends the open item, and begins this one, which must be empty."""
        yield from self.close("completed")
        self._open = item
        self.items.append(item)
        # A copy: the event may be read later, and must show the item empty.
        added = item.model_copy(deep=True)
        yield ItemEvent(type="response.output_item.added", output_index=len(self.items) - 1, item=added)

    def _place(self, item: OutputItem) -> dict[str, object]:
        return {"item_id": item.id, "output_index": len(self.items) - 1}

    def _obfuscated(self, event: DeltaEvent) -> DeltaEvent:
        if self._is_obfuscated:
            event.obfuscation = secrets.token_urlsafe(OBFUSCATION_STEP)[: -len(event.delta) % OBFUSCATION_STEP]
        return event
