"""AssembledMessage, which joins the pieces of a chat answer into one message."""

from __future__ import annotations

from serve_apps.answers.chat_answer import ChatPiece
from tuneyard.api.wire.chat_answer import CalledFunction, ContentLogprob, Logprobs, ResponseMessage, ToolCallMessage


class AssembledMessage:
    """The message of one choice, for an answer that is not streamed."""

    def __init__(self) -> None:
        self._content = ""
        self._reasoning = ""
        self._call: ToolCallMessage | None = None
        self._logprobs: list[ContentLogprob] = []

    def add(self, piece: ChatPiece) -> None:
        """Adds a piece; call it in the order in which ChatAnswer gives the pieces."""
        match piece.kind:
            case "content":
                self._content += piece.text
                self._logprobs += piece.logprobs
            case "reasoning":
                self._reasoning += piece.text
            case "call":
                assert piece.call_id is not None
                self._call = ToolCallMessage(id=piece.call_id, function=CalledFunction(name=piece.text))
            case "arguments":
                assert self._call is not None
                self._call.function.arguments += piece.text

    def message(self) -> ResponseMessage:
        """The message. `content` is null if there is only a call, as in OpenAI's API."""
        return ResponseMessage(
            content=self._content or (None if self._call else ""),
            reasoning_content=self._reasoning or None,
            tool_calls=[self._call] if self._call else None,
        )

    def logprobs(self) -> Logprobs:
        """The log-probabilities of the content's tokens."""
        return Logprobs(content=self._logprobs)
