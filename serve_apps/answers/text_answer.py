"""TextAnswer: one choice of a text completion, from the engine's chunks to text."""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from serve_apps.answers.stop_strings import StopStrings
from serve_apps.engines.engine import TokenChunk, TokenLogprob
from tuneyard.api.wire.completions import CompletionChoice, CompletionLogprobs
from tuneyard.api.wire.usage import FinishReason
from tuneyard.core.errors import EngineError
from tuneyard.harmony.codec import HarmonyCodec


@dataclass(frozen=True, slots=True)
class _TokenEntry:
    """The log-probabilities of one token, and the position of its text in the answer."""

    position: int
    text: str
    logprob: float
    top: dict[str, float]


@dataclass(frozen=True, slots=True)
class EchoedPrompt:
    """A prompt with which the text begins, as text and as token ids."""

    text: str
    token_ids: Sequence[int]


class TextAnswer:
    """One choice, at position `index` among the request's choices. Plain text: no harmony, no reasoning.

    Feed every chunk of the engine to `advance`, until `has_ended`: a stop string may end the answer before the engine
    does. Then `finish_reason` is set. With `echo` the text begins with the prompt, in which no stop string counts.
    """

    def __init__(
        self,
        codec: HarmonyCodec,
        index: int,
        stop: tuple[str, ...],
        *,
        has_logprobs: bool,
        echo: EchoedPrompt | None = None,
    ) -> None:
        self.index = index
        self.tokens = 0
        self.reasoning_tokens = 0
        self.finish_reason: FinishReason | None = None
        self._codec = codec
        self._text = StopStrings(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._has_logprobs = has_logprobs
        self._pending_entries: list[_TokenEntry] = []
        """Entries of the tokens whose text StopStrings still holds back."""
        self._pending_echo = echo
        self._echo_length = len(echo.text) if echo is not None else 0

    @property
    def has_ended(self) -> bool:
        return self.finish_reason is not None

    def advance(self, chunk: TokenChunk) -> list[CompletionChoice]:
        """Returns what the chunk adds. Raises EngineError if the engine aborted the answer."""
        if chunk.finish_reason == "abort":
            raise EngineError("The request was aborted before its answer was complete.")
        if not chunk.token_ids and chunk.finish_reason is None:
            return self._echo(chunk.prompt_logprobs)
        self.tokens += len(chunk.token_ids)
        if self._has_logprobs:
            self._add_entries(chunk.logprobs)
        is_last = chunk.finish_reason is not None
        data = b"".join(self._codec.plain_bytes(token) for token in chunk.token_ids)
        text = self._text.feed(self._decoder.decode(data, final=is_last))
        if self._text.has_stopped:
            self.finish_reason = "stop"
        elif chunk.finish_reason is not None:
            text += self._text.flush()
            self.finish_reason = chunk.finish_reason
        logprobs = self._released_logprobs() if self._has_logprobs else None
        return [CompletionChoice(index=self.index, text=text, finish_reason=self.finish_reason, logprobs=logprobs)]

    def _echo(self, prompt_logprobs: tuple[TokenLogprob, ...]) -> list[CompletionChoice]:
        """The prompt as the first piece, once its log-probabilities are there if they are requested."""
        echo = self._pending_echo
        if echo is None or (self._has_logprobs and len(prompt_logprobs) < len(echo.token_ids) - 1):
            return []
        self._pending_echo = None
        logprobs = self._prompt_logprobs(echo, prompt_logprobs) if self._has_logprobs else None
        return [CompletionChoice(index=self.index, text=echo.text, logprobs=logprobs)]

    def _prompt_logprobs(self, echo: EchoedPrompt, entries: tuple[TokenLogprob, ...]) -> CompletionLogprobs:
        texts = [self._codec.token_text(token)[0] for token in echo.token_ids]
        tops = [{self._codec.token_text(token)[0]: value for token, value in entry.top} for entry in entries]
        return CompletionLogprobs(
            tokens=texts,
            token_logprobs=[None, *(entry.logprob for entry in entries)],
            top_logprobs=[None, *tops],
            text_offset=list(itertools.accumulate(map(len, texts[:-1]), initial=0)),
        )

    def _add_entries(self, logprobs: tuple[TokenLogprob, ...]) -> None:
        position = self._text.fed_characters
        for entry in logprobs:
            text, _ = self._codec.token_text(entry.token_id)
            top = {self._codec.token_text(token)[0]: value for token, value in entry.top}
            self._pending_entries.append(_TokenEntry(position, text, entry.logprob, top))
            position += len(self._codec.plain_bytes(entry.token_id).decode(errors="replace"))

    def _released_logprobs(self) -> CompletionLogprobs:
        """The log-probabilities of the text that StopStrings has released since the last call."""
        is_complete = self.has_ended and not self._text.has_stopped
        released = self._text.released_characters
        ready = [entry for entry in self._pending_entries if is_complete or entry.position < released]
        self._pending_entries = self._pending_entries[len(ready) :]
        return CompletionLogprobs(
            tokens=[entry.text for entry in ready],
            token_logprobs=[entry.logprob for entry in ready],
            top_logprobs=[entry.top for entry in ready],
            text_offset=[self._echo_length + entry.position for entry in ready],
        )


def append_piece(choice: CompletionChoice, piece: CompletionChoice) -> None:
    """Adds a piece of `advance` to a whole choice, in place."""
    choice.text += piece.text
    choice.finish_reason = piece.finish_reason or choice.finish_reason
    if choice.logprobs is None:
        choice.logprobs = piece.logprobs
    elif piece.logprobs is not None:
        choice.logprobs.tokens += piece.logprobs.tokens
        choice.logprobs.token_logprobs += piece.logprobs.token_logprobs
        choice.logprobs.top_logprobs += piece.logprobs.top_logprobs
        choice.logprobs.text_offset += piece.logprobs.text_offset
