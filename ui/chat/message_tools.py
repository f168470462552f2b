"""The line under a message: icons, the alternatives, and what is known about an answer. HTML, all of it ours.

Clicks are handled in the page (chat.js): a button's `data-act` is what to do, `data-node` to which message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from ui.chat.conversations.conversation import AnswerFacts, Conversation, Node, ToolCall

FINISH_NOTES = {
    "stop": None,
    "length": "cut at the token limit",
    "content_filter": "cut by the content filter",
    "tool_calls": None,
}
RUN_ID = re.compile(r"[0-9a-f]{32}")
"""MLflow's ids of runs."""


def question_html(conversation: Conversation, node: Node) -> str:
    """A question in its bubble, as typed, and its tools."""
    tools = [_icon("edit", node, "Edit question"), _icon("copy", node, "Copy question")]
    return (
        f'<div class="ty-question" dir="auto">{escape(node.text)}</div>'
        f'<div class="ty-tools ty-tools-end">{_switch(conversation, node)}{"".join(tools)}</div>'
    )


def answer_html(conversation: Conversation, node: Node, *, is_last: bool) -> str:
    """What stands under an answer: its error, its tools, its facts."""
    tools = [_icon("copy", node, "Copy answer")] if node.text else []
    tools.append(_icon("retry", node, "Retry: another answer"))
    if node.text or is_last:
        tools.append(_icon("correct", node, "Edit answer"))
    return f'{_error(node)}<div class="ty-tools">{"".join(tools)}{_switch(conversation, node)}{_facts(node)}</div>'


def waiting_html(waited_s: float) -> str:
    """Stands where the answer will be, until its first token."""
    seconds = f" · {waited_s:.0f} s" if waited_s >= 1 else ""
    dots = '<span class="ty-dots" aria-hidden="true"><i></i><i></i><i></i></span>'
    return f'<div class="ty-waiting" role="status">{dots}<span>Waiting for the first token{seconds}</span></div>'


def call_html(node: Node, call: ToolCall) -> str:
    """Asks the person for the result of a tool call."""
    data = f'data-act="result" data-node="{escape(node.id)}" data-call="{escape(call.call_id)}"'
    name = escape(call.name or "the tool")
    return (
        f'<div class="ty-result"><span>{name} has no result yet.</span>'
        f'<button type="button" class="ty-button" {data}>Give the result</button></div>'
    )


def fact_notes(node: Node) -> list[str]:
    """What is known about an answer, as short notes."""
    facts = node.facts
    notes = [
        "edited" if node.edited else node.model_id,
        "stopped" if node.state == "stopped" else FINISH_NOTES.get(facts.finish_reason or "stop", facts.finish_reason),
        "no answer" if node.state == "done" and not node.text and not node.tool_calls else None,
    ]
    if facts.completion_tokens is not None:
        notes.append(f"{facts.completion_tokens:,} tokens, prompt {facts.prompt_tokens or 0:,}")
    if facts.tokens_per_s is not None:
        notes.append(f"{facts.tokens_per_s:.1f} tokens/s")
    if facts.first_token_s is not None:
        notes.append(f"first after {facts.first_token_s:.2f} s")
    return [note for note in notes if note]


def lineage_notes(facts: AnswerFacts) -> list[str]:
    """Which version, run and dataset answered, with eight digits of an id; the copied lineage has all."""
    named = (
        ("", facts.version),
        ("run ", facts.run and _short(facts.run)),
        ("dataset ", facts.dataset and facts.dataset[:8]),
    )
    return [f"{name}{value}" for name, value in named if value]


def _short(run: str) -> str:
    """The first eight digits of MLflow's id of a run; another name as it is."""
    return run[:8] if RUN_ID.fullmatch(run) else run


def _facts(node: Node) -> str:
    notes = "".join(f"<span>{escape(note)}</span>" for note in fact_notes(node))
    lineage = lineage_notes(node.facts)
    chip = ""
    if lineage:
        label = escape(f"Copy the lineage: {', '.join(lineage)}")
        texts = "".join(f"<span>{escape(note)}</span>" for note in lineage)
        chip = (
            f'<button type="button" class="ty-lineage" data-act="lineage" data-node="{escape(node.id)}" '
            f'title="{label}" aria-label="{label}">{texts}</button>'
        )
    return f'<span class="ty-facts">{notes}{chip}</span>'


def _error(node: Node) -> str:
    return f'<div class="ty-error" role="alert">{escape(node.error)}</div>' if node.error else ""


def _switch(conversation: Conversation, node: Node) -> str:
    """`‹ 2 / 3 ›`, when there are alternatives."""
    alternatives = conversation.alternatives(node)
    if len(alternatives) < 2:
        return ""
    place = alternatives.index(node)
    what = "question" if node.role == "user" else "answer"
    return (
        '<span class="ty-switch">'
        f"{_step(alternatives, place - 1, 'previous', f'Previous {what}')}"
        f"<span>{place + 1} / {len(alternatives)}</span>"
        f"{_step(alternatives, place + 1, 'next', f'Next {what}')}</span>"
    )


def _step(alternatives: Sequence[Node], place: int, icon: str, label: str) -> str:
    if 0 <= place < len(alternatives):
        return _icon("show", alternatives[place], label, icon)
    return _icon("show", alternatives[0], label, icon, "disabled")


def _icon(act: str, node: Node, label: str, icon: str = "", attribute: str = "") -> str:
    return (
        f'<button type="button" class="ty-icon" data-act="{act}" data-node="{escape(node.id)}" '
        f'title="{label}" aria-label="{label}" {attribute}><i class="ty-i ty-i-{icon or act}"></i></button>'
    )
