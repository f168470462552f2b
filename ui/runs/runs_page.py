"""The Runs page: its components, and which handler answers which event. The handlers are in run_handlers.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from ui.endpoints.run_client import RunClient
from ui.page_context import PageContext
from ui.runs.run_handlers import RunComponents, RunHandlers
from ui.theme.frame import brand_html, drawer_button

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
PLAIN_HTML: dict[str, Any] = {"apply_default_css": False, "js_on_load": None}
VIEW_SCRIPT = Path(__file__).parent / "browser" / "run_view.js"

REFRESH_S = 2.0
"""Seconds between two looks at the runs while the page is open."""


class RunsPage:
    """Lays out the page inside a gr.Blocks and connects it. The page's server keeps nothing about it.

    Handlers take `{component: value}` and return `{component: update}`, so tests call them without a browser.
    """

    def __init__(self, context: PageContext, runs: RunClient) -> None:
        self._context = context
        self._runs = runs

    def build(self, blocks: gr.Blocks) -> RunHandlers:
        """Creates the components inside `blocks`, whose context is open, and connects them. Returns the handlers."""
        script: dict[str, Any] = {"apply_default_css": False, "js_on_load": VIEW_SCRIPT.read_text(encoding="utf-8")}
        with gr.Sidebar(label="Pages", open=False, width=272, elem_id="pages-drawer"):
            gr.HTML(brand_html(self._context.title, "runs"), **PLAIN_HTML)
        chosen, shown, rows = (gr.Textbox(visible=False) for _ in range(3))
        with gr.Column(elem_id="runs"):
            with gr.Row(elem_id="header"):
                gr.HTML(drawer_button("pages-drawer", "menu", "Pages"), **PLAIN_HTML)
                gr.HTML("<h2>Runs</h2>", elem_id="runs-title", **PLAIN_HTML)
                refresh = gr.Button("Refresh", elem_id="refresh", elem_classes="ty-icon-button", scale=0, min_width=36)
            with gr.Column(elem_id="runs-scroll"):
                problem = gr.Markdown(visible=False, elem_id="problem")
                empty = gr.HTML("", visible=False, elem_id="run-empty", **PLAIN_HTML)
                table = gr.HTML("", elem_id="run-table", **script)
                with gr.Column(elem_id="run-sections", visible=False) as sections:
                    head = gr.HTML("", elem_id="run-head", **PLAIN_HTML)
                    curves = gr.HTML("", elem_id="run-curves", **script)
                    details = gr.HTML("", elem_id="run-details", **PLAIN_HTML)
                    with gr.Column(elem_id="run-version-section") as version_section:
                        gr.HTML("<h2>Versions</h2>", **PLAIN_HTML)
                        versions = gr.HTML("", elem_id="run-versions", **script)
        on = RunComponents(
            chosen, shown, rows, problem, empty, table, head, curves, details, versions, sections, version_section
        )
        handlers = RunHandlers(self._runs, on, self._context.visitor_of)
        blocks.load(handlers.open, on.given, on.changed, **QUIET)
        refresh.click(handlers.refresh, on.given, on.changed, **QUIET)
        for list_ in (table, versions):
            list_.click(handlers.choose, on.given, on.changed, **QUIET)
        gr.Timer(REFRESH_S).tick(handlers.refresh, on.given, on.changed, trigger_mode="once", **QUIET)
        return handlers
