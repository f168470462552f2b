"""ChatAnswer: one choice of a chat completion, from the engine's chunks to content, reasoning and tool calls."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from serve_apps.answers.stop_strings import StopStrings
from serve_apps.engines.engine import TokenChunk, TokenLogprob
from tuneyard.api.wire.chat_answer import CalledFunction, ContentLogprob, Delta, ToolCallDelta, TopLogprob
from tuneyard.api.wire.usage import FinishReason
from tuneyard.core.errors import EngineError
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.stream_parser import ContentDelta

FUNCTION_PREFIX = "functions."
"""The recipient begins with it in the header of a harmony message that calls a function."""


PieceKind = Literal["content", "reasoning", "call", "arguments"]
"""What a piece adds to: "call" begins a tool call, whose "arguments" follow."""


@dataclass(slots=True)
class ChatPiece:
    """What one chunk adds to the choice `index`."""

    index: int
    kind: PieceKind
    text: str
    """For "call", the function's name."""
    logprobs: list[ContentLogprob] = field(default_factory=list)
    """For "content", one per token."""
    call_id: str | None = None
    """The id of the call that "call" begins."""

    def delta(self) -> Delta:
        """The piece in OpenAI's form."""
        match self.kind:
            case "content":
                return Delta(content=self.text)
            case "reasoning":
                return Delta(reasoning_content=self.text)
            case "call":
                call = ToolCallDelta(id=self.call_id, type="function", function=CalledFunction(name=self.text))
            case "arguments":
                call = ToolCallDelta(function=CalledFunction(arguments=self.text))
        return Delta(tool_calls=[call])


class ChatAnswer:
    """One choice, at position `index` among the request's choices.

    Feed every chunk of the engine to `advance`, until `has_ended`: a stop string may end the answer before the engine
    does. Then `finish_reason` is set.
    """

    def __init__(self, codec: HarmonyCodec, index: int, stop: tuple[str, ...]) -> None:
        self.index = index
        self.tokens = 0
        """All tokens that the engine made, reasoning, headers and stop tokens included."""
        self.finish_reason: FinishReason | None = None
        self._codec = codec
        self._parser = codec.stream_parser()
        self._content = StopStrings(stop)
        self._pending_logprobs: list[tuple[int, ContentLogprob]] = []
        """Those of the content's tokens that StopStrings still holds back, each with its position in the content."""
        self._call_message: int | None = None
        """Number of the harmony message that is the answer's call."""
        self._has_second_call = False

    @property
    def has_ended(self) -> bool:
        return self.finish_reason is not None

    @property
    def is_malformed(self) -> bool:
        """True if the model left harmony's format, in which a call ends the answer."""
        return self._parser.malformed or self._has_second_call

    @property
    def reasoning_tokens(self) -> int:
        return self._parser.reasoning_tokens

    def advance(self, chunk: TokenChunk) -> list[ChatPiece]:
        """Returns what the chunk adds, in order. Raises EngineError if the engine aborted the answer."""
        pieces: list[ChatPiece] = []
        self.tokens += len(chunk.token_ids)
        if chunk.logprobs:
            for token, logprob in zip(chunk.token_ids, chunk.logprobs, strict=True):
                position = self._content.fed_characters
                deltas = self._parser.feed((token,))
                if self._parser.was_answer:
                    self._pending_logprobs.append((position, self._content_logprob(logprob)))
                self._add_deltas(deltas, pieces)
        else:
            self._add_deltas(self._parser.feed(chunk.token_ids), pieces)
        if chunk.finish_reason is not None and not self.has_ended:
            self._add_deltas(self._parser.finish(), pieces)
            self._end(chunk, pieces)
        return pieces

    def _end(self, chunk: TokenChunk, pieces: list[ChatPiece]) -> None:
        if chunk.finish_reason == "abort":
            raise EngineError("The request was aborted before its answer was complete.")
        self._add_content(self._content.flush(), pieces)
        is_call = self._call_message is not None and chunk.finish_reason == "stop"
        self.finish_reason = "tool_calls" if is_call else chunk.finish_reason

    def _add_deltas(self, deltas: list[ContentDelta], pieces: list[ChatPiece]) -> None:
        """Adds the parser's deltas by channel: final to content, calls to tool_calls, all others to reasoning."""
        for delta in deltas:
            if self.has_ended:
                return
            if delta.recipient is not None and delta.recipient.startswith(FUNCTION_PREFIX):
                self._add_call(delta, delta.recipient.removeprefix(FUNCTION_PREFIX), pieces)
            elif delta.channel == "final":
                self._add_content(self._content.feed(delta.text), pieces)
                if self._content.has_stopped:
                    self.finish_reason = "stop"
            else:
                self._append(pieces, "reasoning", delta.text)

    def _add_content(self, text: str, pieces: list[ChatPiece]) -> None:
        """Adds content that StopStrings has released, with the log-probabilities of its tokens."""
        ready: list[ContentLogprob] = []
        if self._pending_logprobs:
            released = self._content.released_characters
            ready = [entry for position, entry in self._pending_logprobs if position < released]
            self._pending_logprobs = [pair for pair in self._pending_logprobs if pair[0] >= released]
        if text or ready:
            self._append(pieces, "content", text, ready)

    def _add_call(self, delta: ContentDelta, name: str, pieces: list[ChatPiece]) -> None:
        """Adds a piece of a call's arguments; the first piece is preceded by one with the call's id and name.

        A second call ends the answer before it. The model made it without the result of the first, which harmony
        demands; after that result it can still make it.
        """
        if self._call_message is None:
            self._call_message = delta.message
            pieces.append(ChatPiece(self.index, "call", name, call_id=f"call_{uuid.uuid4().hex[:24]}"))
        elif self._call_message != delta.message:
            self._has_second_call = True
            self._add_content(self._content.flush(), pieces)
            self.finish_reason = "tool_calls"
            return
        self._append(pieces, "arguments", delta.text)

    def _append(
        self, pieces: list[ChatPiece], kind: PieceKind, text: str, logprobs: Sequence[ContentLogprob] = ()
    ) -> None:
        """Appends a piece, or extends the last one if it is of the same kind."""
        if pieces and pieces[-1].kind == kind:
            pieces[-1].text += text
            pieces[-1].logprobs += logprobs
        else:
            pieces.append(ChatPiece(self.index, kind, text, list(logprobs)))

    def _content_logprob(self, entry: TokenLogprob) -> ContentLogprob:
        top = [self._token_logprob(token, logprob) for token, logprob in entry.top]
        chosen = self._token_logprob(entry.token_id, entry.logprob)
        return ContentLogprob(token=chosen.token, bytes=chosen.bytes, logprob=chosen.logprob, top_logprobs=top)

    def _token_logprob(self, token: int, logprob: float) -> TopLogprob:
        text, data = self._codec.token_text(token)
        return TopLogprob(token=text, bytes=list(data), logprob=logprob)
