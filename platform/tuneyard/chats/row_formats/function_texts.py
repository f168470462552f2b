"""Converters of function-calling data that spells calls and declarations in its own way: xLAM, Glaive, ToolACE."""

from __future__ import annotations

import json
import re
from typing import Any

from tuneyard.chats.call_text import parse_call_list
from tuneyard.chats.row_formats.call_fields import call_of
from tuneyard.chats.row_formats.chat_row import (
    ChatRow,
    Finding,
    FormatProblem,
    parse_if_json,
    parse_literal,
    take_list,
    take_text,
)
from tuneyard.chats.row_formats.conversations import from_sharegpt
from tuneyard.chats.row_formats.tool_fields import normalize_tools
from tuneyard.core.wording import short_repr

TOOLACE_MARK = "list of functions in JSON format that you can invoke"
"""Stands in every system message of ToolACE, before the declarations."""

_GLAIVE_TURN = re.compile(r"(?:\A|\n)\s*(USER|ASSISTANT|FUNCTION RESPONSE):[ \n]?")
_GLAIVE_END = "<|endoftext|>"
_GLAIVE_CALL = "<functioncall>"
_GLAIVE_ARGUMENTS = re.compile(r"""\{\s*"name":\s*"([^"]+)",\s*"arguments":\s*'(.*)'\s*\}\s*\Z""", re.DOTALL)
_UNREAD_CALLS = re.compile(r"\s*\[[^\[\]{}()]+\(.*\)\s*\]\s*\Z", re.DOTALL)
_NAME = re.compile(r"[^A-Za-z0-9_-]")


def from_xlam(row: dict[str, Any]) -> ChatRow:
    """Converts `query`, the calls `answers` and `tools`, which may be JSON texts."""
    chat = ChatRow([], used={"query", "answers", "tools"})
    calls = take_list(row, "answers")
    for call in calls:
        if not isinstance(call, dict) or not {"name"} <= call.keys() <= {"name", "arguments", "id"}:
            raise FormatProblem(f"expected calls with `name` and `arguments` in `answers`, found {short_repr(call)}")
    answer = {"role": "assistant", "tool_calls": [call_of(call["name"], call.get("arguments")) for call in calls]}
    chat.messages = [{"role": "user", "content": take_text(row, "query")}, answer]
    chat.tools = normalize_tools(row["tools"], chat.findings, is_simplified=True)
    return _with_valid_names(chat)


def from_glaive(row: dict[str, Any]) -> ChatRow:
    """Converts the transcript `chat` of `USER:`, `ASSISTANT:`, `FUNCTION RESPONSE:`, and the functions in `system`."""
    chat = ChatRow([], used={"system", "chat"})
    system = take_text(row, "system").strip().removeprefix("SYSTEM:").strip()
    start = system.find("{")
    if start >= 0 and (functions := _concatenated_objects(system[start:])):
        chat.tools = normalize_tools(functions, chat.findings, is_simplified=True)
        chat.findings.append(_replaced(system[:start].strip()))
    elif system:
        chat.messages.append({"role": "system", "content": system})
    head, *pieces = _GLAIVE_TURN.split(take_text(row, "chat"))
    if head.strip() or not pieces:
        raise FormatProblem(f"`chat` must begin with `USER:`, found {short_repr(row['chat'])}")
    for name, text in zip(pieces[::2], pieces[1::2], strict=True):
        content = text.replace(_GLAIVE_END, "").strip()
        if name == "ASSISTANT" and _GLAIVE_CALL in content:
            said, _, call = content.partition(_GLAIVE_CALL)
            chat.messages.append({"role": "assistant", "content": said.strip(), "tool_calls": [_glaive_call(call)]})
        else:
            role = {"USER": "user", "ASSISTANT": "assistant", "FUNCTION RESPONSE": "tool"}[name]
            chat.messages.append({"role": role, "content": content})
    return _with_valid_names(chat)


def _glaive_call(text: str) -> dict[str, Any]:
    """A call whose arguments are JSON in single quotes: neither JSON nor, with an apostrophe inside, Python."""
    match = _GLAIVE_ARGUMENTS.match(text.strip())
    call = {"name": match[1], "arguments": match[2]} if match else parse_literal(text)
    if not isinstance(call, dict) or not {"name"} <= call.keys() <= {"name", "arguments"}:
        raise FormatProblem(f"{_GLAIVE_CALL} must hold `name` and `arguments`, found {short_repr(text.strip())}")
    return call_of(call["name"], call.get("arguments"))


def from_toolace(row: dict[str, Any]) -> ChatRow:
    """Converts ShareGPT turns with calls such as `[f(x=1)]`, and the functions that the system message lists."""
    chat = from_sharegpt(row)
    chat.used.add("system")
    system = take_text(row, "system")
    before, _, rest = system.partition(TOOLACE_MARK)
    start = rest.find("[")
    try:
        functions, end = json.JSONDecoder().raw_decode(rest[max(start, 0) :])
    except (ValueError, RecursionError) as e:
        raise FormatProblem(f"the functions in `system` are not JSON: {short_repr(rest)}") from e
    chat.tools = normalize_tools(functions, chat.findings, "system", is_simplified=True)
    chat.findings.append(_replaced(f"{before}{TOOLACE_MARK}{rest[:start]}…{rest[start + end :]}"))
    names = [tool["function"].get("name") for tool in chat.tools]
    messages: list[Any] = []
    for number, message in enumerate(chat.messages, start=1):
        calls = parse_call_list(message.get("content"), names) if message.get("role") == "assistant" else None
        if calls:
            made = [call_of(name, arguments) for name, arguments in calls]
            messages.append({key: value for key, value in message.items() if key != "content"} | {"tool_calls": made})
        elif message.get("role") == "tool" and messages and len(messages[-1].get("tool_calls", ())) > 1:
            messages += _split_results(message, len(messages[-1]["tool_calls"]))
        else:
            messages.append(message)
            if message.get("role") == "assistant" and _UNREAD_CALLS.match(str(message.get("content"))):
                text = (
                    f"message {number} (assistant) spells calls that cannot be read: {short_repr(message['content'])}"
                )
                chat.findings.append(Finding("text_markup", text))
    chat.messages = messages
    return _with_valid_names(chat)


def _split_results(message: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The results of several calls, each as a message of its own; the message itself if it does not list so many."""
    results = parse_if_json(message.get("content"))
    if not isinstance(results, list) or len(results) != count:
        return [message]
    return [message | {"content": json.dumps(result, ensure_ascii=False)} for result in results]


def _concatenated_objects(text: str) -> list[Any]:
    """The JSON objects that stand one after another in a text; none if anything else stands there."""
    decoder, objects, position = json.JSONDecoder(), [], 0
    while position < len(text):
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            return []
        objects.append(value)
        while position < len(text) and text[position] in " \n\r\t,":
            position += 1
    return objects


def _replaced(text: str) -> Finding:
    return Finding(
        "replaced_text",
        f"`system` lists tools, which are declared instead; its text is left out: {short_repr(text)}",
        "system",
    )


def _with_valid_names(chat: ChatRow) -> ChatRow:
    """The chat with names of tools that OpenAI's API accepts, in declarations and calls."""
    functions = [tool["function"] for tool in chat.tools if isinstance(tool.get("function"), dict)]
    functions += [
        call["function"]
        for message in chat.messages
        if isinstance(message, dict)
        for call in message.get("tool_calls", ())
        if isinstance(call, dict) and isinstance(call.get("function"), dict)
    ]
    renamed = {}
    for function in functions:
        name = function.get("name")
        if isinstance(name, str) and (valid := _NAME.sub("_", name)[:64]) != name:
            function["name"] = renamed[name] = valid
    for name, valid in renamed.items():
        chat.findings.append(Finding("tool_renamed", f"the tool {short_repr(name)} is called {valid!r} here", name))
    return chat
