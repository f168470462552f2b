"""HarmonyCodec: the ONLY renderer and parser of chats, for training and for serving alike.

Rendering is openai-harmony's. A model with another vocabulary than o200k gets the same conversation
through a bridge: special tokens map by name, the text between them goes through the model's own
tokenizer.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import openai_harmony as oh
from pydantic import field_validator

from tuneyard.chat import ChatExample, ChatMessage
from tuneyard.config import StrictConfig
from tuneyard.harmony_parser import HarmonyStreamParser
from tuneyard.harmony_vocabulary import SPECIAL_TOKENS, ModelVocabulary, load_harmony_encoding

CODEC_VERSION = 1
"""Raise it with every change of this file that changes ids."""

ReasoningEffort = Literal["low", "medium", "high"]


class CodecSettings(StrictConfig):
    """What the system message says. It is part of the prompt, so training freezes it in the manifest."""

    reasoning_effort: ReasoningEffort = "medium"
    """Default effort; a request may ask for another."""

    model_identity: str | None = "You are ChatGPT, a large language model trained by OpenAI."
    """First line of the system message; null leaves it out."""

    knowledge_cutoff: str | None = "2024-06"
    """"Knowledge cutoff" line; null leaves it out."""

    conversation_date: str | None = None
    """"Current date" line: YYYY-MM-DD pins it, `today` follows the clock, null leaves it out."""

    channels_line: bool = True
    """The "# Valid channels" line. GPT-OSS was trained with it: leave it in for GPT-OSS."""

    @field_validator("conversation_date", mode="before")
    @classmethod
    def _known_date(cls, value: object) -> object:
        # YAML reads an unquoted 2026-01-31 as a date.
        if isinstance(value, datetime.date):
            return value.isoformat()
        if isinstance(value, str) and value != "today":
            datetime.date.fromisoformat(value)
        return value


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """One assistant turn with all that comes before it.

    `loss_mask[i]` is true where the model itself must produce `token_ids[i]`.
    """

    token_ids: list[int]
    loss_mask: list[bool]


class HarmonyCodec:
    """Chats to token ids and back, for one vocabulary and one set of settings."""

    def __init__(self, vocabulary: ModelVocabulary, settings: CodecSettings) -> None:
        self._encoding = load_harmony_encoding()
        self._vocabulary = vocabulary
        self.settings = settings
        self._special = {self._o200k_id(token): vocabulary.special_id(token) for token in SPECIAL_TOKENS}
        self.stop_token_ids = (vocabulary.special_id("<|return|>"), vocabulary.special_id("<|call|>"))

    @classmethod
    def from_checkpoint(cls, checkpoint: Path, settings: CodecSettings) -> HarmonyCodec:
        """The codec for a checkpoint folder's `tokenizer.json`. Raises CheckpointError if it does not fit."""
        return cls(ModelVocabulary(checkpoint), settings)

    @property
    def fingerprint(self) -> str:
        """sha256 over everything that changes ids: code, library, vocabulary, settings, and a canary's ids."""
        canary = [
            ChatMessage(role="system", content="Canary <|end|>\n\u00e9\U0001f389"),
            ChatMessage(role="user", content="1+1?"),
        ]
        pinned = self.settings.model_copy(
            update={"conversation_date": "2026-01-01"} if self.settings.conversation_date == "today" else {}
        )
        facts = {
            "codec": CODEC_VERSION,
            "openai_harmony": metadata.version("openai-harmony"),
            "tokenizer": self._vocabulary.sha256,
            "settings": self.settings.model_dump(),
            "canary": HarmonyCodec(self._vocabulary, pinned).render(canary),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def render(self, messages: Sequence[ChatMessage], reasoning_effort: ReasoningEffort | None = None) -> list[int]:
        """Ids of the prompt for the next assistant message; they end with `<|start|>assistant`.

        Reasoning of earlier turns is left out, as harmony's format demands.
        """
        conversation = oh.Conversation.from_messages(
            [self._system_message(reasoning_effort)]
            + [harmony for message in messages for harmony in _to_harmony(message, with_reasoning=False)]
        )
        ids = self._encoding.render_conversation_for_completion(conversation, oh.Role.ASSISTANT)
        return self._bridge(ids)

    def render_for_training(self, example: ChatExample) -> list[TrainingSample]:
        """One sample per assistant turn: the very ids of `render` for what precedes it, then the turn.

        A turn per sample, because harmony drops the reasoning of earlier turns: in one long sample
        earlier answers would be learnt without the reasoning that must come before them.
        """
        samples = []
        for index, message in enumerate(example.messages):
            if message.role == "assistant":
                prompt = self.render(example.messages[:index])
                answer = self._render_answer(message)
                samples.append(TrainingSample(prompt + answer, [False] * len(prompt) + [True] * len(answer)))
        return samples

    def stream_parser(self) -> HarmonyStreamParser:
        """A parser for one completion that continues a prompt of `render`."""
        return HarmonyStreamParser(self._vocabulary)

    def render_text(self, token_ids: Sequence[int]) -> str:
        """The ids as readable text, special tokens spelled out; for people, not for prompts."""
        pieces = [self._vocabulary.special_name(i) or "" for i in token_ids]
        data = b"".join(
            p.encode() if p else self._vocabulary.token_bytes(i) for p, i in zip(pieces, token_ids, strict=True)
        )
        return data.decode(errors="replace")

    def _render_answer(self, message: ChatMessage) -> list[int]:
        """What the model must produce for this turn: from after `<|start|>assistant` to `<|return|>`."""
        ids = [i for part in _to_harmony(message, with_reasoning=True) for i in self._encoding.render(part)]
        opening = [self._o200k_id("<|start|>"), *self._encoding.encode("assistant")]
        assert ids[: len(opening)] == opening
        assert ids[-1] == self._o200k_id("<|end|>")
        return self._bridge([*ids[len(opening) : -1], self._o200k_id("<|return|>")])

    def _system_message(self, reasoning_effort: ReasoningEffort | None) -> oh.Message:
        settings = self.settings
        date = settings.conversation_date
        content = oh.SystemContent(
            model_identity=settings.model_identity,
            reasoning_effort=oh.ReasoningEffort((reasoning_effort or settings.reasoning_effort).capitalize()),
            knowledge_cutoff=settings.knowledge_cutoff,
            conversation_start_date=datetime.date.today().isoformat() if date == "today" else date,
            **({} if settings.channels_line else {"channel_config": None}),
        )
        return oh.Message.from_role_and_content(oh.Role.SYSTEM, content)

    def _o200k_id(self, token: str) -> int:
        return int(self._encoding.encode(token, allowed_special={token})[0])

    def _bridge(self, o200k_ids: Sequence[int]) -> list[int]:
        """The model's ids for harmony's: specials by name, the text between them re-encoded."""
        ids: list[int] = []
        text: list[int] = []
        for token_id in [*o200k_ids, None]:
            if token_id is not None and token_id not in self._special:
                text.append(token_id)
                continue
            if text:
                ids += self._vocabulary.encode_text(self._encoding.decode(text))
                text = []
            if token_id is not None:
                ids.append(self._special[token_id])
        return ids


def _to_harmony(message: ChatMessage, *, with_reasoning: bool) -> list[oh.Message]:
    """Harmony's messages for one of ours: system texts become developer instructions (OpenAI's mapping)."""
    match message.role:
        case "system" | "developer":
            content = oh.DeveloperContent.new().with_instructions(message.content)
            return [oh.Message.from_role_and_content(oh.Role.DEVELOPER, content)]
        case "user":
            return [oh.Message.from_role_and_content(oh.Role.USER, message.content)]
        case "assistant":
            final = oh.Message.from_role_and_content(oh.Role.ASSISTANT, message.content).with_channel("final")
            if not (with_reasoning and message.reasoning_content):
                return [final]
            analysis = oh.Message.from_role_and_content(oh.Role.ASSISTANT, message.reasoning_content)
            return [analysis.with_channel("analysis"), final]
