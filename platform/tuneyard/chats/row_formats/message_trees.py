"""Converter of OpenAssistant's trees of messages: the path of the best-ranked replies becomes the chat."""

from __future__ import annotations

from typing import Any

from tuneyard.chats.row_formats.chat_row import (
    ChatRow,
    Finding,
    FormatProblem,
    parse_if_json,
    report_unknown,
    take_text,
)
from tuneyard.chats.row_formats.column_names import HARMLESS_COLUMNS, MEANINGFUL_COLUMNS
from tuneyard.chats.row_formats.message_fields import ROLES
from tuneyard.core.wording import count_of, short_repr

_NODE_FIELDS = frozenset({"text", "role", "replies"})


def from_oasst(row: dict[str, Any]) -> ChatRow:
    """Converts a tree: from the prompt on, the reply with the lowest `rank` that is not deleted.

    Replies beside the path are named. A question without a reply at the end of the path is left out. Raises
    FormatProblem for the flat form, in which each row is one message.
    """
    node = parse_if_json(row.get("prompt"))
    if not isinstance(node, dict):
        raise FormatProblem(
            "the row is one message of a tree, not a tree. Use OpenAssistant's files of trees (*.trees.jsonl.gz), with "
            f"`message_tree_id` and `prompt`; found {short_repr(row)}"
        )
    chat = ChatRow([], used={"prompt"})
    unused = 0
    while node is not None:
        role = node.get("role")
        chat.messages.append(
            {"role": ROLES.get(role, role) if isinstance(role, str) else role, "content": take_text(node, "text")}
        )
        report_unknown(node, _NODE_FIELDS | HARMLESS_COLUMNS, "prompt.replies", MEANINGFUL_COLUMNS, chat.findings)
        replies = node.get("replies") or []
        if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
            raise FormatProblem(f"expected a list of objects `replies`, found {short_repr(replies)}")
        node = min((reply for reply in replies if reply.get("deleted") is not True), key=_rank, default=None)
        unused += len(replies) - (node is not None)
    if len(chat.messages) > 1 and chat.messages[-1]["role"] == "user":
        chat.messages.pop()
        unused += 1
    if unused:
        text = f"`prompt.replies`: {count_of(unused, 'message')} beside the path of the best replies are not used"
        chat.findings.append(Finding("unused_answer", text, "prompt.replies"))
    return chat


def _rank(reply: dict[str, Any]) -> float:
    """The reply's rank, 0 for the best; replies without one come last, in their order."""
    rank = reply.get("rank")
    return rank if isinstance(rank, int | float) and rank == rank else float("inf")
