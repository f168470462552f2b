"""The conversation as turns: what the page displays, and what is sent to the model."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ui.chat_client import AnswerDelta, AnswerDone, ChatEvent, ReasoningDelta

NOTE_SIGN, ERROR_SIGN = "↳", "⚠"
"""First sign of note and error lines; the style sheet selects them by it."""

FINISH_NOTES = {
    "stop": None,
    "length": "cut at the token limit",
    "content_filter": "cut by the content filter",
    "tool_calls": "the model called a tool; this page has none",
}


@dataclass
class Turn:
    """A question and its answer, which grows while it streams."""

    question: str
    model_id: str = ""
    reasoning: str = ""
    answer: str = ""
    notes: tuple[str, ...] = ()
    error: str | None = None
    live: bool = True

    def add(self, event: ChatEvent) -> None:
        """Adds one event of the stream."""
        match event:
            case ReasoningDelta(text):
                self.reasoning += text
            case AnswerDelta(text):
                self.answer += text
            case AnswerDone():
                self.notes = answer_notes(event)
                if not self.answer:
                    self.notes = ("no answer", *self.notes)

    @property
    def size(self) -> int:
        """Characters received so far; redraw when it has changed."""
        return len(self.reasoning) + len(self.answer)


def answer_notes(done: AnswerDone) -> tuple[str, ...]:
    """The parts of the note line under an answer."""
    notes = [FINISH_NOTES.get(done.finish_reason, f"ended by {done.finish_reason}")]
    if done.completion_tokens is not None:
        notes.append(f"{done.completion_tokens:,} tokens for a prompt of {done.prompt_tokens:,}")
    if done.tokens_per_s is not None:
        notes.append(f"{done.tokens_per_s:.1f} tokens/s")
    if done.first_token_s is not None:
        notes.append(f"first token after {done.first_token_s:.2f} s")
    return tuple(note for note in notes if note)


def api_messages(turns: Sequence[Turn], question: str, system_prompt: str) -> list[dict[str, str]]:
    """The messages to send: the system prompt, the answered turns, the question.

    Reasoning, notes and errors are not sent. A turn without an answer is left out: a question that the server
    refused, for its length for example, would make it refuse every later request.
    """
    messages = [{"role": "system", "content": system_prompt}] if system_prompt.strip() else []
    for turn in turns:
        if turn.answer:
            messages.append({"role": "user", "content": turn.question})
            messages.append({"role": "assistant", "content": turn.answer})
    return [*messages, {"role": "user", "content": question}]


def display_messages(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """The turns in the form of gr.Chatbot: collapsed reasoning, then the answer, then the note line."""
    return [message for turn in turns for message in _display_turn(turn)]


def _display_turn(turn: Turn) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": escape_tags(turn.question)}]
    if turn.reasoning:
        thinking = turn.live and not turn.answer
        metadata = {"title": "Reasoning", "status": "pending" if thinking else "done"}
        messages.append({"role": "assistant", "content": turn.reasoning, "metadata": metadata})
    if turn.answer:
        messages.append({"role": "assistant", "content": turn.answer})
    if turn.error:
        messages.append({"role": "assistant", "content": f"{ERROR_SIGN} {escape_tags(turn.error)}"})
    if turn.notes:
        line = " · ".join((turn.model_id, *turn.notes) if turn.model_id else turn.notes)
        messages.append({"role": "assistant", "content": f"{NOTE_SIGN} {escape_tags(line)}"})
    return messages


def escape_tags(text: str) -> str:
    """Escapes HTML so that Markdown displays it: `what is <div>?` keeps its tag.

    Text with backticks is returned unchanged: inside code Markdown displays tags anyway.
    """
    return text if "`" in text else html.escape(text, quote=False)
