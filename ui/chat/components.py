"""The components of the Chat page that handlers read and change."""

from __future__ import annotations

from typing import Any, NamedTuple

from ui.chat.conversation_book import ConversationBook
from ui.chat.settings_panel import SettingsPanel


class ChatComponents(NamedTuple):
    """Gradio's components, by what they are for."""

    book: ConversationBook
    model: Any
    chat: Any
    question: Any
    problem: Any
    kept_model: Any
    """The model chosen last, kept in the browser."""
    panel: SettingsPanel
