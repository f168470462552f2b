"""The conversation as turns: what is shown, and what of it the model gets to see."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ui.chat_client import AnswerDelta, AnswerDone, ChatEvent, ReasoningDelta

NOTE_SIGN, ERROR_SIGN = "↳", "⚠"
"""What the lines that are neither question nor answer start with; the style sheet knows them by it."""

FINISH_NOTES = {
    "stop": None,
    "length": "cut at the token limit",
    "content_filter": "cut by the content filter",
    "tool_calls": "the model asked for a tool, which this page does not have",
}


@dataclass
class Turn:
    """A question and what came back. It grows while the answer streams."""

    question: str
    model_id: str = ""
    reasoning: str = ""
    answer: str = ""
    notes: tuple[str, ...] = ()
    error: str | None = None
    live: bool = True

    def add(self, event: ChatEvent) -> None:
        """Takes in one event of the stream."""
        match event:
            case ReasoningDelta(text):
                self.reasoning += text
            case AnswerDelta(text):
                self.answer += text
            case AnswerDone():
                self.notes = answer_notes(event)
                if not self.answer:
                    self.notes = ("no answer came", *self.notes)

    @property
    def size(self) -> int:
        """How much has come; a display needs redrawing when it changed."""
        return len(self.reasoning) + len(self.answer)


def answer_notes(done: AnswerDone) -> tuple[str, ...]:
    """The parts of the discreet line under an answer."""
    notes = [FINISH_NOTES.get(done.finish_reason, f"ended by {done.finish_reason}")]
    if done.completion_tokens is not None:
        notes.append(f"{done.completion_tokens:,} tokens for a prompt of {done.prompt_tokens:,}")
    if done.tokens_per_s is not None:
        notes.append(f"{done.tokens_per_s:.1f} tokens/s")
    if done.first_token_s is not None:
        notes.append(f"first token after {done.first_token_s:.2f} s")
    return tuple(note for note in notes if note)


def api_messages(turns: Sequence[Turn], question: str, system_prompt: str) -> list[dict[str, str]]:
    """What is sent: the system prompt, the answered turns, the question.

    Reasoning, notes and errors stay here. A turn without any answer is left out whole: a question
    that the server refused, for its length say, would make it refuse every later one.
    """
    messages = [{"role": "system", "content": system_prompt}] if system_prompt.strip() else []
    for turn in turns:
        if turn.answer:
            messages.append({"role": "user", "content": turn.question})
            messages.append({"role": "assistant", "content": turn.answer})
    return [*messages, {"role": "user", "content": question}]


def display_messages(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """The turns in the form of gr.Chatbot: reasoning folded, then the answer, then the discreet line."""
    return [message for turn in turns for message in _display_turn(turn)]


def _display_turn(turn: Turn) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": readable(turn.question)}]
    if turn.reasoning:
        thinking = turn.live and not turn.answer
        metadata = {"title": "Reasoning", "status": "pending" if thinking else "done"}
        messages.append({"role": "assistant", "content": turn.reasoning, "metadata": metadata})
    if turn.answer:
        messages.append({"role": "assistant", "content": turn.answer})
    if turn.error:
        messages.append({"role": "assistant", "content": f"{ERROR_SIGN} {readable(turn.error)}"})
    if turn.notes:
        line = " · ".join((turn.model_id, *turn.notes) if turn.model_id else turn.notes)
        messages.append({"role": "assistant", "content": f"{NOTE_SIGN} {readable(line)}"})
    return messages


def readable(text: str) -> str:
    """Markdown that shows plain text's tags: `what is <div>?` must not lose its tag.

    Text with code marks is left alone: inside them Markdown shows tags by itself.
    """
    return text if "`" in text else html.escape(text, quote=False)
