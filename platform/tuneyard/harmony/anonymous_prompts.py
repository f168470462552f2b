"""Prompts with their words replaced: the same roles, calls and tools, but none of the words and names in them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from tuneyard.chats.messages import ChatMessage, ChatTool, FunctionCall, ToolCall
from tuneyard.harmony.anonymous_text import anonymise_text

_JSON_TOKEN = re.compile(r'(?P<text>"(?:[^"\\]|\\.)*")(?P<colon>\s*:)?|-?\d[\d.eE+-]*')
_NAME_MAPS = ("properties", "$defs", "definitions", "dependentRequired", "dependentSchemas")
_TEXTS = ("description", "title", "$comment")
_CHOICES = ("enum", "const", "default", "examples")
_KEPT = ("type", "format", "pattern", "$schema", "contentEncoding", "contentMediaType")
"""Keywords of JSON Schema: those whose keys are names, those that are prose, those that hold values, and those whose
text has a meaning for the schema."""


def anonymise_prompt(
    messages: Sequence[ChatMessage], tools: Sequence[ChatTool]
) -> tuple[tuple[ChatMessage, ...], tuple[ChatTool, ...]]:
    """The messages and tools with every word replaced (see anonymous_text).

    Roles, lengths, the structure of tools and their schemas, and which call which result answers stay the same. The
    name of a function is replaced alike in its declaration and in its calls.
    """
    names = _Names()
    new_tools = tuple(_anonymise_tool(tool, names) for tool in tools)
    call_ids: dict[str, str] = {}
    new_messages = tuple(
        message.model_copy(
            update={
                "content": anonymise_text(message.content),
                "reasoning_content": message.reasoning_content and anonymise_text(message.reasoning_content),
                "tool_calls": tuple(_anonymise_call(call, names, call_ids) for call in message.tool_calls),
                "tool_call_id": message.tool_call_id and _number_id(message.tool_call_id, call_ids),
            }
        )
        for message in messages
    )
    return new_messages, new_tools


class _Names:
    """New names, the same one for the same name and different ones for different names."""

    def __init__(self) -> None:
        self._new: dict[str, str] = {}
        self._used: set[str] = set()

    def replace(self, name: str) -> str:
        if name not in self._new:
            variant = 0
            while (new := self._candidate(name, variant)) in self._used:
                variant += 1
            self._new[name] = new
            self._used.add(new)
        return self._new[name]

    @staticmethod
    def _candidate(name: str, variant: int) -> str:
        # Few names have one letter: after some tries a number makes the difference.
        return anonymise_text(name, variant) if variant < 64 or not name else f"{anonymise_text(name)[:48]}{variant}"


def _anonymise_tool(tool: ChatTool, names: _Names) -> ChatTool:
    function = tool.function.model_copy(
        update={
            "name": names.replace(tool.function.name),
            "description": anonymise_text(tool.function.description),
            "parameters": tool.function.parameters and _anonymise_schema(tool.function.parameters, names),
        }
    )
    return tool.model_copy(update={"function": function})


def _anonymise_schema(schema: Any, names: _Names) -> Any:
    if isinstance(schema, list):
        return [_anonymise_schema(item, names) for item in schema]
    if isinstance(schema, str):
        return anonymise_text(schema)
    if not isinstance(schema, dict):
        return schema
    return {keyword: _anonymise_keyword(keyword, value, names) for keyword, value in schema.items()}


def _anonymise_keyword(keyword: str, value: Any, names: _Names) -> Any:
    if keyword in _NAME_MAPS and isinstance(value, dict):
        return {names.replace(name): _anonymise_property(item, names) for name, item in value.items()}
    if keyword == "required":
        return _replace_values(value, names)
    if keyword in _TEXTS and isinstance(value, str):
        return anonymise_text(value)
    if keyword in _CHOICES:
        return _replace_values(value, names)
    if keyword == "$ref" and isinstance(value, str):
        steps = value.split("/")
        return "/".join(
            names.replace(step) if number and steps[number - 1] in _NAME_MAPS else step
            for number, step in enumerate(steps)
        )
    return value if keyword in _KEPT else _anonymise_schema(value, names)


def _anonymise_property(schema: Any, names: _Names) -> Any:
    """The schema of a property; a list of names under `dependentRequired`."""
    return _replace_values(schema, names) if isinstance(schema, list) else _anonymise_schema(schema, names)


def _replace_values(value: Any, names: _Names) -> Any:
    """Values of a schema, such as choices, with their texts replaced as names: different ones stay different."""
    if isinstance(value, str):
        return names.replace(value)
    if isinstance(value, list):
        return [_replace_values(item, names) for item in value]
    if isinstance(value, dict):
        return {names.replace(key): _replace_values(item, names) for key, item in value.items()}
    return value


def _anonymise_call(call: ToolCall, names: _Names, call_ids: dict[str, str]) -> ToolCall:
    function = FunctionCall(
        name=names.replace(call.function.name), arguments=_anonymise_json(call.function.arguments, names)
    )
    return call.model_copy(update={"id": call.id and _number_id(call.id, call_ids), "function": function})


def _number_id(call_id: str, call_ids: dict[str, str]) -> str:
    return call_ids.setdefault(call_id, f"call_{len(call_ids) + 1}")


def _anonymise_json(text: str, names: _Names) -> str:
    """JSON text with its strings, keys and numbers replaced, and its layout kept; other text as text."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return anonymise_text(text)
    return _JSON_TOKEN.sub(lambda match: _anonymise_token(match, names), text)


def _anonymise_token(match: re.Match[str], names: _Names) -> str:
    token = match["text"]
    if token is None:
        # No zeros, because no number may begin with one.
        return re.sub(r"\d", lambda digit: str(1 + digit.start() * 7 % 9), match.group())
    text, colon = json.loads(token), match["colon"]
    new = anonymise_text(text) if colon is None else names.replace(text)
    return json.dumps(new, ensure_ascii="\\u" in token) + (colon or "")
