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
        """The message. `content` is null if there is only a call, as in OpenAI's API."""
        return ResponseMessage(
            content=self._content or (None if self._call else ""),
            reasoning_content=self._reasoning or None,
            tool_calls=[self._call] if self._call else None,
        )

    def logprobs(self) -> Logprobs:
        """The log-probabilities of the content's tokens."""
        return Logprobs(content=self._logprobs)
