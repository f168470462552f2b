"""The jobs of a PromptEncoder: a chat to render, a text to encode, token ids to decode."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from serve_apps.generation.prompt_encoder import PromptEncoder
from tuneyard.chats.messages import ChatMessage, ChatTool
from tuneyard.harmony.settings import ReasoningEffort

MESSAGE_COST = 128
"""A message takes as long to render as so many characters, besides its own."""


@dataclass(frozen=True, slots=True)
class RenderChat:
    """The prompt of a chat, as token ids."""

    chat: tuple[ChatMessage, ...]
    tools: tuple[ChatTool, ...]
    effort: ReasoningEffort | None
    today: datetime.date | None

    @property
    def cost(self) -> int:
        """See PromptJob."""
        return sum(MESSAGE_COST + _characters(message) for message in self.chat) + sum(
            MESSAGE_COST + len(str(tool.function.parameters)) + len(tool.function.description) for tool in self.tools
        )

    def run(self, encoder: PromptEncoder) -> list[int]:
        return encoder.render(self.chat, self.tools, self.effort, self.today)


@dataclass(frozen=True, slots=True)
class EncodeText:
    """The token ids of plain text."""

    text: str

    @property
    def cost(self) -> int:
        """See PromptJob."""
        return len(self.text)

    def run(self, encoder: PromptEncoder) -> list[int]:
        return encoder.encode(self.text)


@dataclass(frozen=True, slots=True)
class DecodeTokens:
    """The text of token ids."""

    token_ids: tuple[int, ...]

    @property
    def cost(self) -> int:
        """See PromptJob."""
        return len(self.token_ids)

    def run(self, encoder: PromptEncoder) -> str:
        return encoder.decode(self.token_ids)


def _characters(message: ChatMessage) -> int:
    calls = sum(len(call.function.name) + len(call.function.arguments) for call in message.tool_calls)
    return len(message.content) + len(message.reasoning_content or "") + calls
