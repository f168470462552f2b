"""The Compare page: its components, and which handler answers which event. The handlers are in compare_handlers.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from tuneyard.api.wire.platform_api.votes import MAX_REASON
from ui.compare.compare_handlers import CompareHandlers
from ui.compare.comparison import LETTERS
from ui.compare.components import CompareComponents
from ui.compare.votes.keeper import ExportForm, VoteKeeper
from ui.page_context import PageContext
from ui.theme.frame import MARK, brand_html, drawer_button

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
ANSWERING: dict[str, Any] = {**QUIET, "trigger_mode": "multiple"}
"""A question may follow while the page still settles the one before."""
PLAIN_HTML: dict[str, Any] = {"apply_default_css": False, "js_on_load": None}
BOARD_SCRIPT = Path(__file__).parent / "browser" / "board.js"

TOKEN_OF_TAB = "(_, ...rest) => [tuneyard.compare.token(), ...rest]"
KEEP_TOKEN = "(token) => { tuneyard.compare.keepToken(token); }"
MARK_DIFFERENCES = "(on) => { tuneyard.compare.markDifferences(on); }"
SAVE_FILE = "(file) => { tuneyard.compare.saveFile(file); }"
"""Functions of browser/compare.js."""

EFFORTS = (("as trained", ""), ("low", "low"), ("medium", "medium"), ("high", "high"))
INTRO = (
    f'<div class="cmp-intro">{MARK}<h2>Compare models</h2>'
    "<p>Ask once, and all of them answer side by side, with the differences marked. With <b>Blind</b> on, their names "
    "are hidden until you vote. Votes become preference data, and an answer that you edit becomes a row to train on."
    "</p></div>"
)


class ComparePage:
    """Lays out the page inside a gr.Blocks and connects it. The page's server keeps the comparisons of open tabs.

    Handlers take `{component: value}` and return `{component: update}`, so tests call them without a browser.
    """

    def __init__(self, context: PageContext, votes: VoteKeeper) -> None:
        self._context = context
        self._votes = votes

    def build(self, blocks: gr.Blocks) -> CompareHandlers:
        """Creates the components inside `blocks`, whose context is open, and connects them. Returns the handlers."""
        parts: dict[str, Any] = {"token": gr.Textbox(visible=False), "download": gr.JSON(visible=False)}
        with gr.Sidebar(label="Votes", open=False, width=272, elem_id="votes-drawer"):
            gr.HTML(brand_html(self._context.title, "compare"), **PLAIN_HTML)
            parts["win_rates"] = gr.HTML("", elem_id="win-rates", **PLAIN_HTML)
            with gr.Row(elem_id="vote-exports"):
                exports: dict[ExportForm, gr.Button] = {
                    "preferences": gr.Button("Preferences", size="sm", min_width=90, elem_classes="cmp-export"),
                    "corrections": gr.Button("Corrections", size="sm", min_width=90, elem_classes="cmp-export"),
                }
        with gr.Sidebar(label="Settings", open=False, width=340, position="right", elem_id="settings-drawer"):
            parts |= self._lay_out_settings()
        with gr.Column(elem_id="compare"):
            refresh, marked, new = self._lay_out_header(parts)
            examples = self._lay_out_answers(parts)
            tie = self._lay_out_foot(parts)
        on = CompareComponents(**parts)
        handlers = CompareHandlers(self._context.client, self._votes, on, self._context.visitor_of)
        self._connect(blocks, on, handlers, examples)
        tie.click(handlers.vote("tie"), on.given, on.changed, **QUIET)
        new.click(handlers.begin_anew, on.given, on.changed, **QUIET)
        refresh.click(handlers.list_models, on.given, on.changed, **QUIET)
        marked.change(None, marked, js=MARK_DIFFERENCES, **QUIET)
        for form, button in exports.items():
            saved = button.click(handlers.export(form), None, {on.download, on.problem}, **QUIET)
            saved.success(None, on.download, js=SAVE_FILE, **QUIET)
        return handlers

    def _lay_out_header(self, parts: dict[str, Any]) -> tuple[gr.Button, gr.Checkbox, gr.Button]:
        with gr.Row(elem_id="header"):
            gr.HTML(drawer_button("votes-drawer", "menu", "Votes"), **PLAIN_HTML)
            parts["models"] = gr.Dropdown(
                [], multiselect=True, max_choices=len(LETTERS), label="Models to compare", show_label=False,
                container=False, elem_id="compare-models", min_width=220, scale=1,
                # The list is the server's, and a restarted server has none until the page asks for it.
                allow_custom_value=True,
            )  # fmt: skip
            refresh = gr.Button("Refresh the list of models", elem_id="refresh", scale=0, min_width=36)
            parts["is_blind"] = gr.Checkbox(
                False, label="Blind", container=False, elem_id="compare-blind", scale=0, min_width=70
            )
            marked = gr.Checkbox(
                True, label="Differences", container=False, elem_id="compare-marked", scale=0, min_width=110
            )
            new = gr.Button("New", size="sm", scale=0, min_width=56, elem_id="compare-new")
            gr.HTML(drawer_button("settings-drawer", "settings", "Settings"), **PLAIN_HTML)
        return refresh, marked, new

    def _lay_out_answers(self, parts: dict[str, Any]) -> list[gr.Button]:
        script = BOARD_SCRIPT.read_text(encoding="utf-8")
        with gr.Column(elem_id="compare-scroll"):
            with gr.Column(elem_id="compare-intro") as parts["intro"]:
                gr.HTML(INTRO, **PLAIN_HTML)
                with gr.Row(elem_id="compare-examples"):
                    examples = [
                        gr.Button(text, size="md", elem_classes="cmp-example") for text in self._context.examples
                    ]
            parts["history"] = gr.HTML("", elem_id="compare-history", apply_default_css=False, js_on_load=script)
            parts["board"] = gr.HTML("", elem_id="compare-board", apply_default_css=False, js_on_load=script)
        return examples

    def _lay_out_foot(self, parts: dict[str, Any]) -> gr.Button:
        with gr.Column(elem_id="composer-frame"):
            parts["problem"] = gr.Markdown(visible=False, elem_id="problem")
            with gr.Row(elem_id="compare-votes", visible=False) as parts["vote_bar"]:
                parts["better"] = [
                    gr.Button(f"{letter} is better", elem_id=f"vote-{letter}", size="md", min_width=80)
                    for letter in LETTERS
                ]
                tie = gr.Button("Tie", elem_id="vote-tie", size="md", min_width=60)
                parts["both_bad"] = gr.Button("Both bad", elem_id="vote-both-bad", size="md", min_width=80)
                parts["reason"] = gr.Textbox(
                    label="Reason of the vote", show_label=False, placeholder="Why? (optional)", container=False,
                    lines=1, max_lines=1, max_length=MAX_REASON, elem_id="vote-reason", scale=2, min_width=160,
                )  # fmt: skip
            with gr.Row(elem_id="compare-voted", visible=False) as parts["voted_row"]:
                parts["voted"] = gr.HTML("", elem_id="voted", **PLAIN_HTML)
                parts["undo"] = gr.Button("Undo", elem_id="vote-undo", size="sm", scale=0, min_width=56)
            parts["question"] = gr.Textbox(
                label="Question", placeholder="Ask all of them", show_label=False, container=False, lines=1,
                max_lines=60, autofocus=True, submit_btn=True, elem_id="question", elem_classes="ty-composer",
            )  # fmt: skip
        return tie

    def _lay_out_settings(self) -> dict[str, Any]:
        return {
            "system_prompt": gr.Textbox(self._context.system_prompt, label="System prompt", lines=3, max_lines=12),
            "temperature": gr.Slider(0, 2, self._context.temperature, step=0.05, label="Temperature"),
            "max_tokens": gr.Number(None, label="Max tokens (empty: the model's limit)", precision=0),
            "effort": gr.Radio(list(EFFORTS), value="", label="Reasoning effort"),
        }

    def _connect(
        self, blocks: gr.Blocks, on: CompareComponents, handlers: CompareHandlers, examples: Sequence[gr.Button]
    ) -> None:
        begun = [on.question.submit(handlers.ask, on.given, on.changed, **ANSWERING)]
        begun += [
            button.click(handlers.ask_example(text), on.given, on.changed, **ANSWERING)
            for button, text in zip(examples, self._context.examples, strict=True)
        ]
        for asked in begun:
            asked.then(handlers.follow, None, {on.board}, **ANSWERING).then(
                handlers.settle, None, on.changed, **ANSWERING
            )
        on.question.stop(handlers.stop, queue=False, **QUIET)
        for position, button in enumerate(on.better):
            button.click(handlers.vote("preferred", position), on.given, on.changed, **QUIET)
        on.both_bad.click(handlers.vote("both_bad"), on.given, on.changed, **QUIET)
        on.undo.click(handlers.undo_vote, on.given, on.changed, **QUIET)
        on.board.click(handlers.correct, on.given, on.changed, **QUIET)
        on.token.change(None, on.token, js=KEEP_TOKEN, **QUIET)
        blocks.load(handlers.restore, [on.token], on.changed, js=TOKEN_OF_TAB, **QUIET)
        blocks.load(handlers.load_models, on.given, on.changed, **QUIET)
        blocks.unload(handlers.leave)
