"""Conversations as files: OpenAI's JSONL, one conversation per line, as `tuneyard data validate` reads it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tuneyard.core.errors import TuneyardError
from ui.chat.conversations.conversation import Conversation, Node, ToolCall
from ui.chat.conversations.messages import exported_messages


class ImportRefusedError(TuneyardError):
    """A file holds no conversations in OpenAI's form."""


def export_jsonl(conversations: Iterable[Conversation]) -> str:
    """One row per conversation: the path that is shown, up to its last complete answer. Others are left out."""
    return "".join(
        json.dumps(row, ensure_ascii=False) + "\n" for conversation in conversations if (row := _row(conversation))
    )


def _row(conversation: Conversation) -> dict[str, Any]:
    messages = exported_messages(conversation)
    if not messages:
        return {}
    if any("tool_calls" in message for message in messages):
        return {"messages": messages, "tools": conversation.tools}
    return {"messages": messages}


def import_jsonl(text: str) -> list[Conversation]:
    """The conversations of a file. Raises ImportRefusedError with the line that is wrong."""
    rows = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not rows:
        raise ImportRefusedError("The file is empty.")
    return [_conversation(number, line) for number, line in rows]


def _conversation(number: int, line: str) -> Conversation:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as e:
        raise ImportRefusedError(f"Line {number} is not JSON: {e.msg}.") from e
    messages = row.get("messages") if isinstance(row, dict) else None
    if not isinstance(messages, list) or not messages:
        raise ImportRefusedError(
            f'Line {number} has no "messages". A row is {{"messages": [{{"role": …, "content": …}}]}}.'
        )
    tools = row.get("tools")
    conversation = Conversation(tools=[tool for tool in tools if isinstance(tool, dict)] if tools else [])
    for message in messages:
        _add_message(conversation, message, f"Line {number}")
    return conversation


def _add_message(conversation: Conversation, message: Any, where: str) -> None:
    if not isinstance(message, dict):
        raise ImportRefusedError(f"{where}: a message must be an object with role and content.")
    role, text = message.get("role"), _text_of(message.get("content"), where)
    match role:
        case "system" | "developer":
            conversation.system_prompt = "\n\n".join(part for part in (conversation.system_prompt, text) if part)
        case "user":
            conversation.add(Node(role="user", text=text), conversation.leaf)
        case "assistant":
            calls = [_call_of(call, where) for call in message.get("tool_calls") or ()]
            reasoning = message.get("reasoning_content") or message.get("reasoning") or message.get("thinking") or ""
            node = Node(role="assistant", text=text, tool_calls=calls, reasoning=str(reasoning))
            conversation.add(node, conversation.leaf)
        case "tool":
            node = Node(role="tool", text=text, call_id=str(message.get("tool_call_id") or ""))
            conversation.add(node, conversation.leaf)
        case _:
            raise ImportRefusedError(f"{where}: role {role!r} is not one of system, developer, user, assistant, tool.")


def _text_of(content: Any, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("text"), str) for part in content
    ):
        return "".join(part["text"] for part in content)
    raise ImportRefusedError(f"{where}: content must be text; images and files cannot be imported.")


def _call_of(call: Any, where: str) -> ToolCall:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ImportRefusedError(f"{where}: a tool call needs an id and a function with name and arguments.")
    arguments = function.get("arguments", "")
    return ToolCall(
        call_id=str(call.get("id") or ""),
        name=function["name"],
        arguments=arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False),
    )
