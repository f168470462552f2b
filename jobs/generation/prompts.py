"""The prompts of a generation: user messages from the command line, and chats up to their last assistant message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tuneyard.chats.dataset import load_chat_dataset
from tuneyard.chats.messages import ChatMessage
from tuneyard.chats.row_settings import RowSettings
from tuneyard.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Prompt:
    """The messages to continue with an assistant message, and the tools that are declared."""

    messages: tuple[ChatMessage, ...]
    tools: Any = ()

    @property
    def question(self) -> str:
        """The text of the last message."""
        return self.messages[-1].content


def read_prompts(texts: Sequence[str], data: str | None, settings: RowSettings | None = None) -> list[Prompt]:
    """One prompt per text, then one per chat of the dataset `data`; `settings` say how its rows become chats.

    Raises ConfigError when there is none, DatasetError for broken chats.
    """
    prompts = [Prompt((ChatMessage(role="user", content=text),)) for text in texts]
    if data is not None:
        examples = load_chat_dataset(data, settings).examples
        prompts += [Prompt(example.last_prompt, example.tools) for example in examples]
    if not prompts:
        raise ConfigError("There is no prompt to complete: give --prompt TEXT or --data FILE.")
    return prompts
