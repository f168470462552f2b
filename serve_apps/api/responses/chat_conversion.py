"""Converts a request of /v1/responses into a chat completion request, and its errors back.

So both routes have one path to the engine: the same limits, prompt, grammar and answer.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tuneyard.api.wire.chat_request import ChatCompletionRequest
from tuneyard.api.wire.responses.items import (
    FunctionCallItem,
    FunctionCallOutputItem,
    InputItem,
    MessageItem,
    ReasoningItem,
    text_of,
)
from tuneyard.api.wire.responses.request import ResponsesRequest
from tuneyard.api.wire.responses.tools import choice_for_chat
from tuneyard.core.errors import RequestError

SAME_FIELDS = (
    "model",
    "parallel_tool_calls",
    "temperature",
    "top_p",
    "seed",
    "stop",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
)
"""Fields that both requests have with the same meaning."""

RENAMED_FIELDS = (
    ("max_completion_tokens", "max_output_tokens"),
    ("response_format", "text.format"),
    ("reasoning_effort", "reasoning.effort"),
    ("verbosity", "text.verbosity"),
    ("messages", "input"),
)
"""A chat completion's field, and where a response's request has it."""

_MESSAGE = re.compile(r"messages\.(\d+)(\.[A-Za-z0-9_.]+)?")


def to_chat_request(request: ResponsesRequest, history: Sequence[InputItem] = ()) -> ChatCompletionRequest:
    """The chat completion request with the same answer. `history` comes before the request's own input.

    Raises RequestError that names the field of the response's request.
    """
    messages = _ChatMessages(history_items=len(history))
    if request.instructions:
        messages.append({"role": "developer", "content": request.instructions}, "instructions")
    for item in (*history, *request.input_items):
        messages.add(item)
    messages.end_answer()
    body: dict[str, Any] = {name: getattr(request, name) for name in SAME_FIELDS}
    body |= {
        "messages": messages.messages,
        "tools": [tool.for_chat() for tool in request.tools],
        "tool_choice": choice_for_chat(request.tool_choice),
        "response_format": request.text.format_for_chat(),
        "verbosity": request.text.verbosity,
        "reasoning_effort": request.reasoning.effort,
        "max_completion_tokens": request.max_output_tokens,
        "logprobs": request.has_logprobs,
        "top_logprobs": request.top_logprobs,
    }
    try:
        return ChatCompletionRequest.parse(body)
    except RequestError as e:
        raise _in_terms_of_input(e, messages.sources) from e


def in_terms_of_response(error: RequestError) -> RequestError:
    """An error of the chat path, with the names of this request's fields."""
    return _in_terms_of_input(error, [])


@dataclass(slots=True)
class _ChatMessages:
    """Messages of a chat, made from items.

    The reasoning, the text and the calls of one answer are items of their own, and become one assistant message.
    """

    history_items: int
    messages: list[dict[str, Any]] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    """For each message, the field of the request where it comes from."""
    _answer: dict[str, Any] = field(default_factory=dict)
    """The assistant message that is being put together; empty if there is none."""
    _answer_source: str = ""
    _items: int = 0

    def append(self, message: dict[str, Any], source: str) -> None:
        self.messages.append(message)
        self.sources.append(source)

    def add(self, item: InputItem) -> None:
        source = self._next_source()
        match item:
            case ReasoningItem():
                self._continue_answer(source, ends_before=("content",))
                reasoning = self._answer.get("reasoning_content")
                self._answer["reasoning_content"] = f"{reasoning}\n{item.text}" if reasoning else item.text
            case MessageItem(role="assistant"):
                self._continue_answer(source, ends_before=("content", "tool_calls"))
                self._answer["content"] = text_of(item.content)
            case FunctionCallItem():
                self._continue_answer(source)
                function = {"name": item.name, "arguments": item.arguments}
                call = {"id": item.call_id, "type": "function", "function": function}
                self._answer.setdefault("tool_calls", []).append(call)
            case FunctionCallOutputItem():
                self.end_answer()
                self.append({"role": "tool", "tool_call_id": item.call_id, "content": text_of(item.output)}, source)
            case MessageItem():
                self.end_answer()
                self.append({"role": item.role, "content": text_of(item.content)}, source)
            case _:
                raise AssertionError("references are replaced by their items before")

    def end_answer(self) -> None:
        """Appends the assistant message. Reasoning alone is left out: harmony drops it when a message follows."""
        if "content" in self._answer or "tool_calls" in self._answer:
            self.append({"role": "assistant"} | self._answer, self._answer_source)
        self._answer = {}

    def _continue_answer(self, source: str, ends_before: tuple[str, ...] = ()) -> None:
        """Begins an assistant message, unless the item continues the one before: then it has no `ends_before` yet."""
        if any(name in self._answer for name in ends_before):
            self.end_answer()
        if not self._answer:
            self._answer_source = source

    def _next_source(self) -> str:
        index = self._items - self.history_items
        self._items += 1
        return f"input.{index}" if index >= 0 else "previous_response_id"


def _in_terms_of_input(error: RequestError, sources: Sequence[str]) -> RequestError:
    """The error with this request's names in `param` and message. `sources` names the item behind each message."""

    def source(match: re.Match[str]) -> str:
        index = int(match[1])
        return sources[index] if index < len(sources) else "input"

    def rename(text: str) -> str:
        text = _MESSAGE.sub(source, text)
        text = re.sub(r"\b(tools\.\d+)\.function\b", r"\1", text)
        for chat_name, name in RENAMED_FIELDS:
            # "messages" is also an English word: only where it is the name of a field.
            end = "(?=['.]|$)" if chat_name == "messages" else r"(?!\w)"
            text = re.sub(rf"(?<![\w.]){chat_name}{end}(\.json_schema)*", name, text)
        return text

    renamed = copy.copy(error)
    renamed.message = rename(error.message)
    renamed.param = rename(error.param) if error.param is not None else None
    renamed.args = (renamed.message, renamed.param, *error.args[2:])
    return renamed
