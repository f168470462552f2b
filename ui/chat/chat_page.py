"""The Chat page: its components, and which handler answers which event. The handlers are in chat_handlers.py."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ui.chat.chat_handlers import ChatHandlers
from ui.chat.components import ChatComponents
from ui.chat.conversation_book import ConversationBook
from ui.chat.model_text import LATEX_DELIMITERS
from ui.chat.settings_panel import SECRET, SettingsPanel
from ui.page_context import PageContext
from ui.theme.frame import brand_html, drawer_button, empty_state

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

SETTLED = "(...inputs) => tuneyard.book.settled(inputs)"


class ChatPage:
    """Lays out the page inside a gr.Blocks and connects it. Conversations are in the browser; the server keeps none.

    Handlers take `{component: value}` and return `{component: update}`, so tests call them without a browser.
    """

    def __init__(self, context: PageContext) -> None:
        self._context = context
        self._panel = SettingsPanel(context.system_prompt, context.temperature)

    def build(self, blocks: gr.Blocks) -> ChatHandlers:
        """Creates the components inside `blocks`, whose context is open, and connects them. Returns the handlers."""
        context = self._context
        with gr.Sidebar(label="Conversations", open=False, width=272, elem_id="book-drawer"):
            gr.HTML(brand_html(context.title, "chat"), apply_default_css=False)
            book = ConversationBook()
        with gr.Sidebar(label="Settings", open=False, width=340, position="right", elem_id="settings-drawer"):
            self._panel.lay_out()
        with gr.Column(elem_id="talk"):
            with gr.Row(elem_id="header"):
                gr.HTML(drawer_button("book-drawer", "menu", "Conversations"), apply_default_css=False)
                model = gr.Dropdown(
                    [], label="Model", show_label=False, container=False, elem_id="model", min_width=140, scale=1,
                    # Gradio's server checks values against its own list, and after a restart it has none.
                    allow_custom_value=True,
                )  # fmt: skip
                refresh = gr.Button("Refresh the list of models", elem_id="refresh", scale=0, min_width=36)
                gr.HTML(
                    drawer_button("settings-drawer", "settings", "Settings"),
                    apply_default_css=False,
                    elem_id="settings-open",
                )
            chat = gr.Chatbot(
                show_label=False, container=False, elem_id="chat", autoscroll=False, buttons=[], feedback_options=None,
                group_consecutive_messages=False, latex_delimiters=LATEX_DELIMITERS, allow_tags=False,
                placeholder=empty_state(context.title), examples=[{"text": text} for text in context.examples],
            )  # fmt: skip
            with gr.Column(elem_id="composer-frame"):
                problem = gr.Markdown(visible=False, elem_id="problem")
                question = gr.Textbox(
                    label="Question", placeholder="Ask something", show_label=False, container=False, lines=1,
                    max_lines=60, autofocus=True, submit_btn=True, elem_id="question", elem_classes="ty-composer",
                )  # fmt: skip
        kept_model = gr.BrowserState("", storage_key="tuneyard-model", secret=SECRET)
        components = ChatComponents(book, model, chat, question, problem, kept_model, self._panel)
        handlers = ChatHandlers(context.client, components, context.visitor_of, context.system_prompt)
        self._connect(blocks, components, handlers, refresh)
        return handlers

    def _connect(self, blocks: gr.Blocks, on: ChatComponents, handlers: ChatHandlers, refresh: gr.Button) -> None:
        given = {on.question, on.book, on.model, on.panel.system_prompt, *on.panel.fields}
        changed = {on.question, on.book, on.chat, on.model, on.problem, on.panel.system_prompt}
        # Multiple: while one conversation's answer streams, a question can be asked in another one.
        answering: dict[str, Any] = {**QUIET, "trigger_mode": "multiple"}
        for begun in (
            on.question.submit(handlers.ask, given, changed, js=SETTLED, **answering),
            on.chat.example_select(handlers.ask_example, given, changed, js=SETTLED, **answering),
            on.book.open(handlers.open, given, changed, **answering),
            on.book.act(handlers.act, given, changed, **answering),
        ):
            followed = begun.then(handlers.follow, None, {on.chat, on.book}, **answering)
            followed.then(handlers.settle, None, on.question, **answering)
        on.question.stop(handlers.stop, {on.book}, queue=False, **QUIET)
        for trigger in (blocks.load, refresh.click):
            trigger(handlers.list_models, {on.model, on.kept_model}, {on.model, on.problem}, **QUIET)
        on.model.change(None, on.model, on.kept_model, js="(model) => model", **QUIET)
        on.panel.connect(blocks)
        blocks.unload(handlers.leave)
