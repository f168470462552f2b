"""Prompts on which the chat template is compared with the codec, by Jinja2 and by llama.cpp."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tuneyard.chats.messages import ChatMessage, ChatTool, request_fields

QUESTION = ChatMessage(role="user", content="Weather in Oslo?")
CALL = ChatMessage.model_validate(
    {
        "role": "assistant",
        "reasoning_content": "The tool knows.",
        "tool_calls": [{"id": "1", "function": {"name": "weather", "arguments": '{"place":  "Oslo"}'}}],
    }
)
ANNOUNCED_CALL = CALL.model_copy(update={"content": "I look it up."})
RESULT = ChatMessage(role="tool", content='{"sky": "grey"}', tool_call_id="1")
WEATHER = ChatTool.model_validate(
    {
        "function": {
            "name": "weather",
            "description": "Says the weather.\nSlow.\n",
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"type": "string", "description": "A town", "examples": ["Oslo", 3]},
                    "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
                    "days": {"type": "integer", "default": 1, "title": "Days", "nullable": True},
                    "tags": {"type": "array", "items": {"type": "string"}, "default": ["a", "b"]},
                    "when": {
                        "description": "A time",
                        "oneOf": [{"type": "string", "description": "A date"}, {"type": "number", "default": 2}],
                    },
                    "where": {"type": "object", "properties": {"x": {"type": ["number", "null"]}}, "required": ["x"]},
                },
                "required": ["place"],
            },
        }
    }
)
PLAIN = ChatTool.model_validate({"function": {"name": "now"}})

Prompt = tuple[Sequence[ChatMessage], Sequence[ChatTool]]

FROZEN_PROMPTS: list[Prompt] = [
    ([QUESTION], []),
    ([], []),
    ([ChatMessage(role="system", content="Be brief."), QUESTION], []),
    ([ChatMessage(role="developer", content=""), QUESTION], []),
    ([ChatMessage(role="developer", content="Be {{ brief }}."), QUESTION, CALL, RESULT], [WEATHER]),
    ([QUESTION, CALL, RESULT], [WEATHER]),
    (
        [QUESTION, CALL, RESULT, ChatMessage(role="assistant", content="Grey.", reasoning_content="Say it."), QUESTION],
        [WEATHER],
    ),
    ([QUESTION, ChatMessage(role="system", content="Now in French."), QUESTION], []),
]

JINJA_PROMPTS: list[Prompt] = [
    *FROZEN_PROMPTS,
    # llama.cpp leaves out the text before a call that has reasoning.
    ([QUESTION, ANNOUNCED_CALL, RESULT], [WEATHER]),
    # llama.cpp gives a tool without parameters the empty schema.
    ([QUESTION], [WEATHER, PLAIN]),
    # llama.cpp continues the last message of an assistant.
    ([RESULT, ChatMessage(role="assistant", content="")], []),
]
"""FROZEN_PROMPTS, and those that llama.cpp changes before it renders them."""


def llama_cpp_fields(messages: Sequence[ChatMessage], tools: Sequence[ChatTool]) -> dict[str, Any]:
    """The prompt as fields of a request to llama.cpp, which wants the type of each call."""
    fields = request_fields(messages, tools)
    for message in fields["messages"]:
        for call in message.get("tool_calls", ()):
            call["type"] = "function"
    return fields
