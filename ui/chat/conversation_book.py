"""ConversationBook: the conversations that the browser keeps, as a Gradio component. Its program is in browser/."""

from __future__ import annotations

from typing import Any

import gradio as gr
from pydantic import ValidationError

from tuneyard.core.errors import TuneyardError
from ui.chat.conversations.conversation import Conversation
from ui.chat.conversations.exchange import export_jsonl, import_jsonl

START = """
tuneyard.startBook(element, props, watch, server, {
  open: () => trigger("open"),
  act: (what) => trigger("act", what),
});
"""


class ConversationBook(gr.HTML):
    """The list of conversations, and the value of the open one.

    Value from the browser: `{"conversation": …, "editing": node id or null}`. Value to the browser:
    `{"conversation": …, "is_asked": bool}`; the browser keeps it, and shows it if that conversation is open.

    Events: `open` when another conversation is shown; `act` with what a person did to a message:
    `{"act": "retry" | "show" | "correct" | "result" | "stop", "node": id, "text": …, "call": …}`.
    """

    def __init__(self, *, render: bool = True) -> None:
        super().__init__(
            value=None,
            render=render,
            html_template="<p>Loading conversations</p>",
            js_on_load=START,
            apply_default_css=False,
            elem_id="book",
            server_functions=[export_rows, import_rows],
        )

    def postprocess(self, value: Any) -> Any:
        return value


def export_rows(conversations: list[dict[str, Any]]) -> dict[str, str]:
    """`{"rows": JSONL}` of the conversations, or `{"problem": why not}`."""
    try:
        rows = export_jsonl(Conversation.from_json(value) for value in conversations)
    except ValidationError:
        return {"problem": "A conversation in this browser cannot be read. Export the others one by one."}
    return {"rows": rows} if rows else {"problem": "There is no complete answer to export yet."}


def import_rows(text: str) -> dict[str, Any]:
    """`{"conversations": …}` of a file, or `{"problem": why not}`."""
    try:
        return {"conversations": [conversation.to_json() for conversation in import_jsonl(text)]}
    except TuneyardError as e:
        return {"problem": str(e)}
