"""A conversation as the messages of gr.Chatbot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ui.chat.conversations.conversation import Conversation, Node, ToolCall
from ui.chat.message_tools import answer_html, call_html, question_html, waiting_html
from ui.chat.model_text import as_markdown

HTML_PROPS = {"apply_default_css": False}
"""Properties of gr.HTML, the component that shows our own HTML in a message."""


def display_messages(conversation: Conversation, waited_s: float = 0) -> list[dict[str, Any]]:
    """The path of a conversation: questions, folded reasoning, tool calls as steps, answers with their tools.

    `waited_s` is the time since the question was sent, shown while a live answer has no text.
    """
    path = conversation.path()
    results = {node.call_id: node for node in path if node.role == "tool"}
    open_calls = {call.call_id for call in conversation.open_calls()}
    messages: list[dict[str, Any]] = []
    for node in path:
        if node.role == "user":
            messages.append(_html("user", question_html(conversation, node)))
        elif node.role == "assistant":
            messages += _answer(conversation, node, results, open_calls, is_last=node is path[-1], waited_s=waited_s)
    return messages


def _answer(
    conversation: Conversation,
    node: Node,
    results: dict[str, Node],
    open_calls: set[str],
    *,
    is_last: bool,
    waited_s: float,
) -> Iterator[dict[str, Any]]:
    live = node.state == "live"
    if node.reasoning:
        yield _step(_reasoning_title(node), node.reasoning, is_pending=live and node.reasoning_s is None)
    if node.text:
        yield _text(as_markdown(node.text))
    for call in node.tool_calls:
        result = results.get(call.call_id)
        yield _step(f"Tool · {call.name}", _call_text(call, result), is_pending=live)
        if call.call_id in open_calls:
            yield _html("assistant", call_html(node, call))
    if not live:
        yield _html("assistant", answer_html(conversation, node, is_last=is_last))
    elif not (node.text or node.reasoning or node.tool_calls):
        yield _html("assistant", waiting_html(waited_s))


def _reasoning_title(node: Node) -> str:
    if node.reasoning_s is None:
        return "Reasoning"
    return f"Reasoning · {node.reasoning_s:.0f} s" if node.reasoning_s >= 1 else f"Reasoning · {node.reasoning_s:.1f} s"


def _call_text(call: ToolCall, result: Node | None) -> str:
    parts = [_code_block(_pretty_json(call.arguments), "json")]
    if result is not None:
        parts += ["Result:", _code_block(_pretty_json(result.text), "json" if _is_json(result.text) else "")]
    return "\n\n".join(parts)


def _code_block(text: str, language: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"


def _pretty_json(text: str) -> str:
    return json.dumps(json.loads(text), indent=2, ensure_ascii=False) if _is_json(text) else text


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


def _step(title: str, text: str, *, is_pending: bool) -> dict[str, Any]:
    """A folded step; open while it grows."""
    message = _text(as_markdown(text))
    # In a title Markdown and LaTeX apply too: a tool's name is the model's text.
    metadata = {"title": as_markdown(title), "status": "pending" if is_pending else "done"}
    return message | {"metadata": metadata}


def _text(text: str) -> dict[str, Any]:
    # Not a bare string, from which Gradio would strip the first line's indentation.
    return {"role": "assistant", "content": {"type": "text", "text": text}}


def _html(role: str, html: str) -> dict[str, Any]:
    content = {"type": "component", "component": "html", "value": html, "constructor_args": {}, "props": HTML_PROPS}
    return {"role": role, "content": content}
