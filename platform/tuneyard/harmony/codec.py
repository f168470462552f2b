"""HarmonyCodec: the only renderer and parser of chats, used for training and for serving.

openai-harmony renders the prompts. For a model whose vocabulary is not o200k, VocabularyBridge translates the ids.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import openai_harmony as oh

from tuneyard.chats.messages import ChatExample, ChatMessage, ChatTool, FunctionCall, ToolCall
from tuneyard.harmony.bridge import VocabularyBridge
from tuneyard.harmony.conversation import called_functions, developer_message, system_message, to_harmony
from tuneyard.harmony.encoding import load_harmony_encoding
from tuneyard.harmony.loss_mask import AnswerSegment, TrainingSample, build_training_sample, is_trained_turn
from tuneyard.harmony.settings import CodecSettings, ReasoningEffort
from tuneyard.harmony.stream_parser import HarmonyStreamParser
from tuneyard.harmony.vocabulary import ModelVocabulary

CODEC_VERSION = 2
"""Increase it with every change of this room that changes token ids: checkpoints of older versions are then refused."""


class HarmonyCodec:
    """Chats to token ids and back, for one vocabulary and one set of settings."""

    def __init__(self, vocabulary: ModelVocabulary, settings: CodecSettings) -> None:
        self._encoding = load_harmony_encoding()
        self._vocabulary = vocabulary
        self._bridge = VocabularyBridge(self._encoding, vocabulary)
        self.settings = settings
        self.stop_token_ids = (vocabulary.special_id("<|return|>"), vocabulary.special_id("<|call|>"))
        # Looked up once: openai-harmony takes a millisecond for each.
        self._o200k_opening = [self._bridge.o200k_id("<|start|>"), *self._encoding.encode("assistant")]
        self._o200k_end, self._o200k_return = map(self._bridge.o200k_id, ("<|end|>", "<|return|>"))
        self._opening = self._bridge.to_model_ids(self._o200k_opening)

    @classmethod
    def from_checkpoint(cls, checkpoint: Path, settings: CodecSettings) -> HarmonyCodec:
        """The codec for the `tokenizer.json` of a checkpoint folder. Raises CheckpointError as ModelVocabulary does."""
        return cls(ModelVocabulary(checkpoint), settings)

    @property
    def checkpoint(self) -> Path:
        """The checkpoint folder whose tokenizer this codec uses."""
        return self._vocabulary.checkpoint

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that changes token ids: code, library, vocabulary, settings, and a rendered chat."""
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
        """The token ids of the prompt for the next assistant message; they end with `<|start|>assistant`.

        Reasoning before the last user message is left out, as harmony's format requires. `reasoning_effort` None is
        the effort of the settings. `today` is the date of `conversation_date: today`; None is the clock's.
        """
        last_user = max((i for i, m in enumerate(messages) if m.role == "user"), default=0)
        ids, start = self._render_head(messages, tools, reasoning_effort, today)
        for index, (message, called) in enumerate(zip(messages, called_functions(messages), strict=True)):
            if index >= start:
                ids += self._render_message(message, called, with_reasoning=index > last_user)
        return ids + self._opening

    def render_for_training(self, example: ChatExample, train_on_reasoning: bool = True) -> Iterator[TrainingSample]:
        """One sample per trained assistant turn: the ids of `render` for the messages before it, then the turn.

        Each turn is a sample of its own because harmony drops the reasoning of earlier turns from a prompt. In one
        long sample, earlier answers would be trained without the reasoning that must come before them. loss_mask
        decides which turns and tokens are trained. Each message is rendered once, and samples are made when they are
        asked for: all of a long chat together have many times its tokens.
        """
        messages = example.messages
        ids, start = self._render_head(messages, example.tools, None, None)
        # Of the messages after the last user's, what they add to prompts of this turn, and to prompts of later ones.
        this_turn: list[int] = []
        later_turns: list[int] = []
        last_trained = max((i for i, message in enumerate(messages) if is_trained_turn(message)), default=-1)
        for index, (message, called) in enumerate(zip(messages, called_functions(messages), strict=True)):
            if is_trained_turn(message):
                answer = self._render_answer(messages, index)
                prompt = [*ids, *this_turn, *self._opening]
                yield build_training_sample(prompt, answer, train_on_reasoning=train_on_reasoning)
            if index >= last_trained:
                return
            if index < start:
                continue
            plain = self._render_message(message, called, with_reasoning=False)
            later_turns += plain
            if message.role == "user" or index == 0:
                ids += later_turns
                this_turn, later_turns = [], []
            elif message.reasoning_content:
                this_turn += self._render_message(message, called, with_reasoning=True)
            else:
                this_turn += plain

    def _render_head(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ChatTool],
        reasoning_effort: ReasoningEffort | None,
        today: datetime.date | None,
    ) -> tuple[list[int], int]:
        """The ids of harmony's system message and of the tools' declarations, and the number of `messages` in them.

        They are rendered together, because the system message of openai-harmony depends on the tools. Every other
        message is rendered for itself: it begins and ends with a special token.
        """
        harmony = [system_message(self.settings, reasoning_effort, today)]
        has_instructions = bool(messages) and messages[0].role in ("system", "developer")
        if has_instructions:
            harmony += to_harmony(messages[0], tools, "", with_reasoning=False)
        elif tools:
            harmony.append(developer_message("", tools))
        ids = self._encoding.render_conversation(oh.Conversation.from_messages(harmony))
        return self._bridge.to_model_ids(ids), int(has_instructions)

    def _render_message(self, message: ChatMessage, called_function: str, *, with_reasoning: bool) -> list[int]:
        harmony = to_harmony(message, (), called_function, with_reasoning=with_reasoning)
        return self._bridge.to_model_ids([token_id for each in harmony for token_id in self._encoding.render(each)])

    def token_ids(self, *texts: str) -> list[int]:
        """The ids of those texts that are a single token of the model, or the name of a special token, in order."""
        return [token_id for text in texts if (token_id := self._vocabulary.token_id(text)) is not None]

    def stream_parser(self) -> HarmonyStreamParser:
        """A parser for one completion of a prompt from `render`."""
        return HarmonyStreamParser(self._vocabulary)

    def token_text(self, token_id: int) -> tuple[str, bytes]:
        """The text of a token and its bytes. Incomplete characters are U+FFFD; special tokens are their names."""
        special = self._vocabulary.special_name(token_id)
        data = special.encode() if special is not None else self._vocabulary.token_bytes(token_id)
        return data.decode(errors="replace"), data

    def plain_bytes(self, token_id: int) -> bytes:
        """The bytes of an ordinary token; b"" for a special one."""
        is_special = self._vocabulary.special_name(token_id) is not None
        return b"" if is_special else self._vocabulary.token_bytes(token_id)

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens of the tokenizer, special ones included."""
        return self._vocabulary.size

    def encode_text(self, text: str) -> list[int]:
        """The ids of plain text. They are never special tokens, even if the text spells one."""
        return self._vocabulary.encode_text(text)

    def render_text(self, token_ids: Sequence[int]) -> str:
        """The ids as text with the names of special tokens. For display, not for prompts."""
        return b"".join(self.token_text(token_id)[1] for token_id in token_ids).decode(errors="replace")

    def _render_answer(self, messages: Sequence[ChatMessage], index: int) -> list[AnswerSegment]:
        """The tokens that the model must produce for the assistant message at `index`.

        They begin behind `<|start|>assistant` and end with `<|return|>` or `<|call|>`. Each segment is one harmony
        message. The opening `<|start|>assistant` of the next message belongs to the segment before it, because the
        end of that message decides that another one follows.
        """
        opening = self._o200k_opening
        rendered = []
        for harmony in to_harmony(messages[index], (), "", with_reasoning=True):
            ids = list(self._encoding.render(harmony))
            assert ids[: len(opening)] == opening
            rendered.append((ids[len(opening) :], harmony.channel == "analysis"))
        segments = [
            AnswerSegment(self._bridge.to_model_ids(ids + opening), is_reasoning) for ids, is_reasoning in rendered[:-1]
        ]
        last_ids, is_reasoning = rendered[-1]
        if last_ids[-1] == self._o200k_end:
            last_ids[-1] = self._o200k_return
        return [*segments, AnswerSegment(self._bridge.to_model_ids(last_ids), is_reasoning)]


_CANARY_TOOL = ChatTool.model_validate(
    {"function": {"name": "add", "description": "Adds", "parameters": {"type": "object", "properties": {}}}}
)
_CANARY_CALL = ToolCall(function=FunctionCall(name="add", arguments="{}"))
