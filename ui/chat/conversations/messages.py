"""Conversations as OpenAI messages: what is sent to a model, and what an exported row holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ui.chat.conversations.conversation import Conversation, Node

Message = dict[str, Any]


def request_messages(conversation: Conversation) -> list[Message]:
    """The messages to send for the next answer: the system prompt, then the path.

    Reasoning, notes and errors are not sent. An earlier question without an answer is left out: a question that the
    server refused, for its length for example, would make it refuse every later request.
    """
    *earlier, last = list(_turns(conversation.path())) or [[]]
    answered = [turn for turn in earlier if any(node.role == "assistant" for node in _sendable(turn))]
    return [*_system(conversation), *(_message(node) for turn in (*answered, last) for node in _sendable(turn))]


def exported_messages(conversation: Conversation) -> list[Message]:
    """The messages of a training row: complete turns only, up to the last answer; empty if there is none."""
    complete = [turn for turn in map(_sendable, _turns(conversation.path())) if _is_complete(turn)]
    if not complete:
        return []
    return [*_system(conversation), *(_message(node) for turn in complete for node in turn)]


def _system(conversation: Conversation) -> list[Message]:
    prompt = conversation.system_prompt
    return [{"role": "system", "content": prompt}] if prompt.strip() else []


def _turns(path: Sequence[Node]) -> Iterator[list[Node]]:
    """The path cut before each question."""
    turn: list[Node] = []
    for node in path:
        if node.role == "user" and turn:
            yield turn
            turn = []
        turn.append(node)
    if turn:
        yield turn


def _sendable(turn: Sequence[Node]) -> list[Node]:
    """The turn without empty answers, and without tool calls that lack a result, which servers refuse."""
    results = {node.call_id for node in turn if node.role == "tool"}
    nodes = []
    answered: set[str] = set()
    for node in turn:
        if node.role == "assistant":
            calls = node.tool_calls if all(call.call_id in results for call in node.tool_calls) else []
            answered |= {call.call_id for call in calls}
            if node.text or calls:
                nodes.append(node.model_copy(update={"tool_calls": calls}))
        elif node.role == "user" or node.call_id in answered:
            nodes.append(node)
    return nodes


def _is_complete(turn: Sequence[Node]) -> bool:
    if not turn or turn[0].role != "user":
        return False
    last = turn[-1]
    return last.role == "assistant" and last.state == "done" and not last.tool_calls


def _message(node: Node) -> Message:
    if node.role == "tool":
        return {"role": "tool", "tool_call_id": node.call_id, "content": node.text}
    message: Message = {"role": node.role, "content": node.text}
    if node.tool_calls:
        function_calls = [
            {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in node.tool_calls
        ]
        message |= {"content": node.text or None, "tool_calls": function_calls}
    return message
