"""Parses the token stream of a model's answer into text per channel; malformed streams do not raise.

openai-harmony's StreamableParser raises in the middle of a malformed stream and returns raw special tokens as content
(openai/harmony issue 38, TensorRT-LLM issue 9256). This parser recovers, sets `malformed`, and never returns a special
token. Both agree on well-formed streams; a property test compares them.
"""

from __future__ import annotations

import codecs
import enum
import re
from collections.abc import Iterable
from typing import NamedTuple

from tuneyard.harmony.vocabulary import ModelVocabulary

CHANNELS = ("analysis", "commentary", "final")
MAX_HEADER_CHARACTERS = 200
"""A longer header is not a header: the model wrote plain text in its place."""

_RECIPIENT = re.compile(r"\bto=(\S+)")


class ContentDelta(NamedTuple):
    """A piece of a message's text, with the channel and the recipient of the message.

    `message` is the message's number within the answer, from 1. A tuple, because one is made for each token: that
    takes half the time of a frozen dataclass.
    """

    channel: str
    recipient: str | None
    text: str
    message: int


class _State(enum.Enum):
    HEADER = enum.auto()
    CONTENT = enum.auto()
    BETWEEN = enum.auto()
    ENDED = enum.auto()


class HarmonyStreamParser:
    """Parses one completion of a prompt that ends with `<|start|>assistant`.

    Call `feed` with any number of ids at a time, then `finish` once. Attributes, up to the last id fed:
    `malformed`: whether the stream broke harmony's format; `complete`: whether the model ended its answer with
    `<|return|>` or `<|call|>`; `reasoning_tokens`: the number of tokens inside analysis messages; `was_answer`: whether
    the last id is a token of the final message's text.
    """

    def __init__(self, vocabulary: ModelVocabulary) -> None:
        self._vocabulary = vocabulary
        self._state = _State.HEADER
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._header = ""
        self._channel_header: str | None = None
        self._first_message = True
        self._channel = "final"
        self._recipient: str | None = None
        self._muted = False
        self._message = 0
        self.malformed = False
        self.complete = False
        self.reasoning_tokens = 0
        self.was_answer = False

    def feed(self, token_ids: Iterable[int]) -> list[ContentDelta]:
        """The text that becomes complete with these ids, in order. Never raises, whatever the ids are."""
        deltas: list[ContentDelta] = []
        for token_id in token_ids:
            special = self._vocabulary.special_name(token_id)
            in_final = self._state is _State.CONTENT and self._channel == "final" and not self._muted
            self.was_answer = in_final and special is None
            if special is not None:
                self._emit(deltas, self._decoder.decode(b"", final=True))
                self._decoder.reset()
                self._on_special(special)
            elif self._state is not _State.ENDED:
                if self._state is _State.CONTENT and self._channel == "analysis":
                    self.reasoning_tokens += 1
                self._emit(deltas, self._decoder.decode(self._vocabulary.token_bytes(token_id)))
        return deltas

    def finish(self) -> list[ContentDelta]:
        """Ends the stream and returns the rest of the text: an incomplete character, or an answer without a header."""
        deltas: list[ContentDelta] = []
        self._emit(deltas, self._decoder.decode(b"", final=True))
        if self._state is _State.HEADER and self._first_message and self._channel_header is None and self._header:
            self._take_header_as_answer(deltas)
        self._state = _State.ENDED
        return deltas

    def _emit(self, deltas: list[ContentDelta], text: str) -> None:
        """Adds decoded text to the header or to the content of the current message."""
        if not text:
            return
        if self._state is _State.HEADER:
            if self._channel_header is None:
                self._header += text
            else:
                self._channel_header += text
            if len(self._header) + len(self._channel_header or "") > MAX_HEADER_CHARACTERS:
                self._take_header_as_answer(deltas)
            return
        if self._state is _State.BETWEEN:
            self.malformed = True
            self._open_message("final", None)
        if not self._muted:
            deltas.append(ContentDelta(self._channel, self._recipient, text, self._message))

    def _take_header_as_answer(self, deltas: list[ContentDelta]) -> None:
        """Treats the header as the answer: the model wrote plain text in its place."""
        text = self._header + (self._channel_header or "")
        self.malformed = True
        self._open_message("final", None)
        deltas.append(ContentDelta("final", None, text, self._message))

    def _on_special(self, token: str) -> None:
        if self._state is _State.ENDED:
            return
        match token:
            case "<|return|>" | "<|call|>":
                self.malformed |= self._state is not _State.CONTENT
                self.complete = True
                self._state = _State.ENDED if self._state is not _State.HEADER else self._state
            case "<|end|>":
                self.malformed |= self._state is not _State.CONTENT
                self._state = _State.BETWEEN if self._state is _State.CONTENT else self._state
            case "<|start|>":
                self.malformed |= self._state is not _State.BETWEEN
                self._open_header()
            case "<|channel|>":
                self.malformed |= self._state is not _State.HEADER
                if self._state is not _State.HEADER:
                    self._open_header()
                    self._header = "assistant"
                self._channel_header = ""
            case "<|message|>" if self._state is _State.HEADER:
                self._close_header()
            case "<|constrain|>" if self._state is _State.HEADER:
                if self._channel_header is not None:
                    self._channel_header += " "
            case _:
                self.malformed = True

    def _open_header(self) -> None:
        self._state = _State.HEADER
        self._header, self._channel_header, self._first_message = "", None, False

    def _close_header(self) -> None:
        """Parses role, channel and recipient from the complete header and opens the message."""
        role = "assistant" if self._first_message else self._header.strip().split(" ", 1)[0]
        words = (self._channel_header or "").split()
        channel = words[0] if words else ""
        recipient = _RECIPIENT.search(f"{self._header} {self._channel_header or ''}")
        if channel not in CHANNELS or role != "assistant":
            self.malformed = True
        self._open_message(channel if channel in CHANNELS else "final", recipient.group(1) if recipient else None)
        # A message of another role, such as an invented next user message, is not part of the answer.
        self._muted = role != "assistant"

    def _open_message(self, channel: str, recipient: str | None) -> None:
        self._state = _State.CONTENT
        self._message += 1
        self._channel, self._recipient, self._muted = channel, recipient, False
        self._header, self._channel_header, self._first_message = "", None, False
