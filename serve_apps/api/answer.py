"""One running answer: the engine's chunks -> what a client gets to see, with its counts and its ending. No HTTP."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from serve_apps.engines.engine import TokenChunk, TokenLogprob
from tuneyard.api.responses import (
    CalledFunction,
    ContentLogprob,
    Delta,
    FinishReason,
    Logprobs,
    ResponseMessage,
    ToolCallDelta,
    ToolCallMessage,
    TopLogprob,
)
from tuneyard.core.errors import EngineError
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.stream_parser import ContentDelta

FUNCTIONS = "functions."


@dataclass(slots=True)
class Piece:
    """What a chunk adds: to show, and the log-probabilities of the answer's tokens in it."""

    delta: Delta
    logprobs: list[ContentLogprob] = field(default_factory=list)


class Answer:
    """One choice. `index` is its place among the request's choices.

    Feed every chunk to `advance`. Once `ended`, `finish_reason` says why, and the engine need not go on.
    """

    def __init__(self, codec: HarmonyCodec, index: int, stop: tuple[str, ...]) -> None:
        self.index = index
        self.tokens = 0
        self.finish_reason: FinishReason | None = None
        self._codec = codec
        self._parser = codec.stream_parser()
        self._text = StopStrings(stop)
        self._logprobs: list[tuple[int, ContentLogprob]] = []
        self._call_id: str | None = None

    @property
    def ended(self) -> bool:
        return self.finish_reason is not None

    @property
    def malformed(self) -> bool:
        """Whether the model left harmony's format."""
        return self._parser.malformed

    @property
    def reasoning_tokens(self) -> int:
        return self._parser.reasoning_tokens

    def advance(self, chunk: TokenChunk) -> list[Piece]:
        """What is new, in order. Raises EngineError for an answer that was cut short by the engine."""
        pieces: list[Piece] = []
        self.tokens += len(chunk.token_ids)
        if chunk.logprobs:
            for token, logprob in zip(chunk.token_ids, chunk.logprobs, strict=True):
                seen = self._text.seen
                deltas = self._parser.feed((token,))
                if self._parser.was_answer:
                    self._logprobs.append((seen, self._content_logprob(logprob)))
                self._take(deltas, pieces)
        else:
            self._take(self._parser.feed(chunk.token_ids), pieces)
        if chunk.finish_reason is not None and not self.ended:
            self._take(self._parser.finish(), pieces)
            self._end(chunk, pieces)
        return pieces

    def _end(self, chunk: TokenChunk, pieces: list[Piece]) -> None:
        if chunk.finish_reason == "abort":
            raise EngineError("The request was aborted before its answer was complete.")
        self._show(self._text.flush(), pieces)
        called = self._call_id is not None and chunk.finish_reason == "stop"
        self.finish_reason = "tool_calls" if called else chunk.finish_reason

    def _take(self, deltas: list[ContentDelta], pieces: list[Piece]) -> None:
        for delta in deltas:
            if self.ended:
                return
            if delta.recipient is not None and delta.recipient.startswith(FUNCTIONS):
                self._call(delta, pieces)
            elif delta.channel == "final":
                self._show(self._text.feed(delta.text), pieces)
                if self._text.stopped:
                    self.finish_reason = "stop"
            else:
                _add(pieces, Delta(reasoning_content=delta.text))

    def _show(self, text: str, pieces: list[Piece]) -> None:
        """Content that no stop string can begin in any more, with the log-probabilities of its tokens."""
        shown = self._text.shown
        ready = [entry for start, entry in self._logprobs if start < shown]
        self._logprobs = [(start, entry) for start, entry in self._logprobs if start >= shown]
        if text or ready:
            _add(pieces, Delta(content=text), ready)

    def _call(self, delta: ContentDelta, pieces: list[Piece]) -> None:
        """A call's arguments; its name goes before the first of them."""
        assert delta.recipient is not None
        if self._call_id is None:
            self._call_id = f"call_{uuid.uuid4().hex[:24]}"
            function = CalledFunction(name=delta.recipient.removeprefix(FUNCTIONS), arguments="")
            opening = ToolCallDelta(id=self._call_id, type="function", function=function)
            pieces.append(Piece(Delta(tool_calls=[opening])))
        _add(pieces, Delta(tool_calls=[ToolCallDelta(function=CalledFunction(arguments=delta.text))]))

    def _content_logprob(self, found: TokenLogprob) -> ContentLogprob:
        top = [self._named(token, logprob) for token, logprob in found.top]
        own = self._named(found.token_id, found.logprob)
        return ContentLogprob(token=own.token, bytes=own.bytes, logprob=own.logprob, top_logprobs=top)

    def _named(self, token: int, logprob: float) -> TopLogprob:
        text, data = self._codec.token_text(token)
        return TopLogprob(token=text, bytes=list(data), logprob=logprob)


class StopStrings:
    """Holds text back as long as a stop string may have begun in it; cuts before one that is complete."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.seen = 0
        """Characters that have come."""
        self.shown = 0
        """Characters that have been let through."""
        self.stopped = False

    def feed(self, text: str) -> str:
        """What of it, and of what was held back, may be shown."""
        self.seen += len(text)
        self._held += text
        found = [(place + len(stop), place) for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            # The one that is complete first, however the text was cut into pieces.
            _, place = min(found)
            return self._release(place, keep=False)
        return self._release(len(self._held) - self._possible_beginning(), keep=True)

    def flush(self) -> str:
        """What is still held back, at the end."""
        return self._release(len(self._held), keep=False)

    def _possible_beginning(self) -> int:
        """Length of the longest end of what is held that begins a stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0

    def _release(self, length: int, *, keep: bool) -> str:
        text = self._held[:length]
        self._held = self._held[length:] if keep else ""
        self.shown += len(text)
        return text


class Whole:
    """Pieces put together again: the message of an answer that is given at once."""

    def __init__(self) -> None:
        self._content = ""
        self._reasoning = ""
        self._call: ToolCallMessage | None = None
        self._logprobs: list[ContentLogprob] = []

    def add(self, piece: Piece) -> None:
        delta = piece.delta
        self._content += delta.content or ""
        self._reasoning += delta.reasoning_content or ""
        self._logprobs += piece.logprobs
        for call in delta.tool_calls or ():
            if call.id is not None:
                self._call = ToolCallMessage(id=call.id, function=CalledFunction(name=call.function.name))
            else:
                assert self._call is not None
                self._call.function.arguments += call.function.arguments

    def message(self) -> ResponseMessage:
        """`content` is null beside a call, as OpenAI has it."""
        return ResponseMessage(
            content=self._content or (None if self._call else ""),
            reasoning_content=self._reasoning or None,
            tool_calls=[self._call] if self._call else None,
        )

    def logprobs(self) -> Logprobs:
        return Logprobs(content=self._logprobs)


def _add(pieces: list[Piece], delta: Delta, logprobs: list[ContentLogprob] | None = None) -> None:
    """Appends, or lengthens the last piece when it is of the same kind: a chunk makes one piece of each."""
    last = pieces[-1].delta if pieces else None
    if last is not None and delta.content is not None and last.content is not None:
        last.content += delta.content
        pieces[-1].logprobs += logprobs or []
    elif last is not None and delta.reasoning_content is not None and last.reasoning_content is not None:
        last.reasoning_content += delta.reasoning_content
    elif last is not None and delta.tool_calls and last.tool_calls and last.tool_calls[0].id is None:
        last.tool_calls[0].function.arguments += delta.tool_calls[0].function.arguments
    else:
        pieces.append(Piece(delta, list(logprobs or [])))
