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

from tuneyard.chats.messages import ChatExample, ChatMessage, ChatTool, FunctionCall, ToolCall
from tuneyard.core.strict_config import StrictConfig
from tuneyard.harmony.stream_parser import HarmonyStreamParser
from tuneyard.harmony.vocabulary import SPECIAL_TOKENS, ModelVocabulary, load_harmony_encoding

CODEC_VERSION = 2
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
            ChatMessage(role="assistant", reasoning_content="Add.", tool_calls=(_CANARY_CALL,)),
            ChatMessage(role="tool", content="2"),
        ]
        pinned = self.settings.model_copy(
            update={"conversation_date": "2026-01-01"} if self.settings.conversation_date == "today" else {}
        )
        facts = {
            "codec": CODEC_VERSION,
            "openai_harmony": metadata.version("openai-harmony"),
            "tokenizer": self._vocabulary.sha256,
            "settings": self.settings.model_dump(),
            "canary": HarmonyCodec(self._vocabulary, pinned).render(canary, (_CANARY_TOOL,)),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def render(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ChatTool] = (),
        reasoning_effort: ReasoningEffort | None = None,
        today: datetime.date | None = None,
    ) -> list[int]:
        """Ids of the prompt for the next assistant message; they end with `<|start|>assistant`.

        Reasoning before the last user message is left out, as harmony's format demands. `today` is
        what `conversation_date: today` means; None asks the clock.
        """
        last_user = max((i for i, m in enumerate(messages) if m.role == "user"), default=0)
        harmony = [self._system_message(reasoning_effort, today)]
        if tools and not (messages and messages[0].role in ("system", "developer")):
            harmony.append(_developer_message("", tools))
        for index in range(len(messages)):
            harmony += _to_harmony(messages, index, tools if index == 0 else (), with_reasoning=index > last_user)
        ids = self._encoding.render_conversation_for_completion(
            oh.Conversation.from_messages(harmony),
            oh.Role.ASSISTANT,
            oh.RenderConversationConfig(auto_drop_analysis=False),
        )
        return self._bridge(ids)

    def render_for_training(self, example: ChatExample, train_on_reasoning: bool = True) -> list[TrainingSample]:
        """One sample per assistant turn: the very ids of `render` for what precedes it, then the turn.

        A turn per sample, because harmony drops the reasoning of earlier turns: in one long sample
        earlier answers would be learnt without the reasoning that must come before them. A turn of
        weight 0 gives none. Without `train_on_reasoning` the reasoning is context, without loss.
        """
        samples = []
        for index, message in enumerate(example.messages):
            if message.role != "assistant" or message.weight == 0:
                continue
            prompt = self.render(example.messages[:index], example.tools)
            parts = self._answer_parts(example.messages, index)
            ids, mask = list(prompt), [False] * len(prompt)
            for part, is_reasoning in parts:
                ids += part
                mask += [train_on_reasoning or not is_reasoning] * len(part)
            samples.append(TrainingSample(ids, mask))
        return samples

    def token_ids(self, *texts: str) -> list[int]:
        """The id of each text that is one token of the model, special ones by their name; others are left out."""
        return [found for text in texts if (found := self._vocabulary.token_id(text)) is not None]

    def stream_parser(self) -> HarmonyStreamParser:
        """A parser for one completion that continues a prompt of `render`."""
        return HarmonyStreamParser(self._vocabulary)

    def token_text(self, token_id: int) -> tuple[str, bytes]:
        """How a token reads (an incomplete character as U+FFFD), and its bytes."""
        special = self._vocabulary.special_name(token_id)
        data = special.encode() if special is not None else self._vocabulary.token_bytes(token_id)
        return data.decode(errors="replace"), data

    def plain_bytes(self, token_id: int) -> bytes:
        """The bytes of an ordinary token; none for a special one."""
        special = self._vocabulary.special_name(token_id) is not None
        return b"" if special else self._vocabulary.token_bytes(token_id)

    @property
    def vocabulary_size(self) -> int:
        """Tokens that the tokenizer knows, special ones too."""
        return self._vocabulary.size

    def encode_text(self, text: str) -> list[int]:
        """Ids of plain text; no special token, whatever the text spells."""
        return self._vocabulary.encode_text(text)

    def render_text(self, token_ids: Sequence[int]) -> str:
        """The ids as readable text, special tokens spelled out; for people, not for prompts."""
        pieces = [self._vocabulary.special_name(i) or "" for i in token_ids]
        data = b"".join(
            p.encode() if p else self._vocabulary.token_bytes(i) for p, i in zip(pieces, token_ids, strict=True)
        )
        return data.decode(errors="replace")

    def _answer_parts(self, messages: Sequence[ChatMessage], index: int) -> list[tuple[list[int], bool]]:
        """What the model must produce for a turn, from after `<|start|>assistant` to `<|return|>` or `<|call|>`.

        Its harmony messages in order, each with whether it is reasoning. The opening of a message
        counts to the one before, whose end decides that there is another.
        """
        opening = [self._o200k_id("<|start|>"), *self._encoding.encode("assistant")]
        rendered = []
        for harmony in _to_harmony(messages, index, (), with_reasoning=True):
            ids = list(self._encoding.render(harmony))
            assert ids[: len(opening)] == opening
            rendered.append((ids[len(opening) :], harmony.channel == "analysis"))
        parts = [(self._bridge(ids + opening), is_reasoning) for ids, is_reasoning in rendered[:-1]]
        last, is_reasoning = rendered[-1]
        if last[-1] == self._o200k_id("<|end|>"):
            last[-1] = self._o200k_id("<|return|>")
        return [*parts, (self._bridge(last), is_reasoning)]

    def _system_message(self, reasoning_effort: ReasoningEffort | None, today: datetime.date | None) -> oh.Message:
        settings = self.settings
        date = settings.conversation_date
        content = oh.SystemContent(
            model_identity=settings.model_identity,
            reasoning_effort=oh.ReasoningEffort((reasoning_effort or settings.reasoning_effort).capitalize()),
            knowledge_cutoff=settings.knowledge_cutoff,
            conversation_start_date=(today or datetime.date.today()).isoformat() if date == "today" else date,
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


def _to_harmony(
    messages: Sequence[ChatMessage], index: int, tools: Sequence[ChatTool], *, with_reasoning: bool
) -> list[oh.Message]:
    """Harmony's messages for one of ours: system texts become developer instructions (OpenAI's mapping)."""
    message = messages[index]
    match message.role:
        case "system" | "developer":
            return [_developer_message(message.content, tools)]
        case "user":
            return [oh.Message.from_role_and_content(oh.Role.USER, message.content)]
        case "tool":
            author = oh.Author(role=oh.Role.TOOL, name=f"functions.{_called_name(messages, index)}")
            result = oh.Message(author=author, content=[oh.TextContent(text=message.content)])
            return [result.with_channel("commentary").with_recipient("assistant")]
        case "assistant":
            return _assistant_messages(message, with_reasoning=with_reasoning)


def _assistant_messages(message: ChatMessage, *, with_reasoning: bool) -> list[oh.Message]:
    """Analysis, then the answer; or, before a call, what is said as commentary, then the call."""
    texts = []
    if with_reasoning and message.reasoning_content:
        texts.append((message.reasoning_content, "analysis"))
    if message.content or not message.tool_calls:
        texts.append((message.content, "commentary" if message.tool_calls else "final"))
    harmony = [oh.Message.from_role_and_content(oh.Role.ASSISTANT, t).with_channel(channel) for t, channel in texts]
    for call in message.tool_calls:
        sent = oh.Message.from_role_and_content(oh.Role.ASSISTANT, call.function.arguments).with_channel("commentary")
        harmony.append(sent.with_recipient(f"functions.{call.function.name}").with_content_type("<|constrain|>json"))
    return harmony


def _developer_message(instructions: str, tools: Sequence[ChatTool]) -> oh.Message:
    content = oh.DeveloperContent.new()
    if instructions or not tools:
        content = content.with_instructions(instructions)
    if tools:
        content = content.with_function_tools(
            [
                oh.ToolDescription.new(t.function.name, t.function.description, parameters=t.function.parameters)
                for t in tools
            ]
        )
    return oh.Message.from_role_and_content(oh.Role.DEVELOPER, content)


def _called_name(messages: Sequence[ChatMessage], index: int) -> str:
    """The function that the tool message at `index` answers for: the one called last before it."""
    for message in reversed(messages[:index]):
        if message.tool_calls:
            return message.tool_calls[-1].function.name
    return "unknown"


_CANARY_TOOL = ChatTool.model_validate(
    {"function": {"name": "add", "description": "Adds", "parameters": {"type": "object", "properties": {}}}}
)
_CANARY_CALL = ToolCall(function=FunctionCall(name="add", arguments="{}"))
