"""PromptEncoder: chats and texts to token ids, and back, within the limits of text. Runs here or in a worker."""

from __future__ import annotations

import datetime
import logging
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from serve_apps.generation.text_limits import check_texts
from tuneyard.chats.messages import ChatMessage, ChatTool
from tuneyard.chats.rules.call_pairing import interleave_calls
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.core.errors import RequestError
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings, ReasoningEffort

logger = logging.getLogger(__name__)


class PromptJob(Protocol):
    """Something to encode or to decode. `cost` is about the number of characters that take the same time."""

    @property
    def cost(self) -> int: ...
    def run(self, encoder: PromptEncoder) -> Any: ...


class PromptEncoder:
    """Encodes with the codec that training used. `max_model_len` is the context in tokens."""

    def __init__(self, codec: HarmonyCodec, max_model_len: int, limits: HttpLimits) -> None:
        self.codec = codec
        self._max_model_len = max_model_len
        self._limits = limits

    def render(
        self,
        chat: Sequence[ChatMessage],
        tools: Sequence[ChatTool] = (),
        effort: ReasoningEffort | None = None,
        today: datetime.date | None = None,
    ) -> list[int]:
        """The prompt of a chat. `effort` and `today` are those of HarmonyCodec.render.

        Raises RequestError for text beyond the limits and whatever harmony cannot render.
        """
        check_texts(_tool_texts(tools), self._max_model_len, self._limits, "tools")
        check_texts(_chat_texts(chat), self._max_model_len, self._limits, "messages")
        try:
            return self.codec.render(interleave_calls(chat), tools, effort, today)
        except Exception as e:
            # Harmony refuses some input that JSON allows, such as deeply nested parameters. The error's text may quote
            # the chat, so only its type is logged.
            logger.info("harmony refuses a chat: %s", type(e).__name__)
            raise RequestError(
                f"The chat cannot be rendered as a prompt: {e}.", param="tools" if tools else "messages"
            ) from e

    def encode(self, text: str) -> list[int]:
        """The ids of plain text, which never become special tokens. Raises RequestError for text beyond the limits."""
        check_texts([text], self._max_model_len, self._limits, "prompt")
        return self.codec.encode_text(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, with special tokens spelled out."""
        return self.codec.render_text(token_ids)


def create_job_runner(
    checkpoint: Path, settings: CodecSettings, max_model_len: int, limits: HttpLimits
) -> Callable[[PromptJob], Any]:
    """For a worker process: a function that runs a PromptJob.

    Token ids are returned as an array, which is pickled many times faster than a list.
    """
    encoder = PromptEncoder(HarmonyCodec.from_checkpoint(checkpoint, settings), max_model_len, limits)

    def run(job: PromptJob) -> Any:
        result = job.run(encoder)
        return array("q", result) if isinstance(result, list) else result

    return run


def _chat_texts(chat: Sequence[ChatMessage]) -> Iterator[str]:
    """Every text of a chat that is rendered."""
    for message in chat:
        yield message.content
        yield message.reasoning_content or ""
        for call in message.tool_calls:
            yield call.function.name
            yield call.function.arguments


def _tool_texts(tools: Sequence[ChatTool]) -> Iterator[str]:
    """Every text of the tools' declarations that is rendered."""
    for tool in tools:
        yield tool.function.name
        yield tool.function.description
        if tool.function.parameters is not None:
            yield from _strings(tool.function.parameters)


def _strings(value: Any) -> Iterator[str]:
    """All strings in a JSON value, names of fields included."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            yield from item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
