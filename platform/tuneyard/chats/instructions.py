"""SharedInstructions: the system message that all chats of a dataset begin with, if they do.

A model that was only ever trained with a system message answers worse without it, and nothing else says so.
"""

from __future__ import annotations

from tuneyard.chats.messages import ChatExample

MAX_SHOWN = 200
"""Characters of the message in a line of text."""


class SharedInstructions:
    """Add every chat of a dataset; then `text` is the system message they all begin with."""

    def __init__(self) -> None:
        self._text: str | None = None
        self._chats = 0
        self._is_shared = True

    @property
    def text(self) -> str | None:
        """The content of the system (or developer) message; None if chats differ, or if there are fewer than two."""
        return self._text if self._is_shared and self._chats > 1 else None

    def add(self, example: ChatExample) -> None:
        """Notes down one chat."""
        self._chats += 1
        if not self._is_shared:
            return
        first = example.messages[0]
        text = first.content if first.role in ("system", "developer") else None
        if self._chats == 1:
            self._text = text
        self._is_shared = text is not None and text == self._text


def instructions_advice(text: str) -> str:
    """What to tell people whose training chats all begin with the system message `text`: one line.

    Line breaks and control characters are shown as in a Python string, and long messages are cut.
    """
    shown = text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
    return f"All training chats begin with the system message {shown!r}: send it with every request too."
