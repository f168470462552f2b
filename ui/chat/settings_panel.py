"""The side panel: system prompt with presets, sampling, effort, seed, stop, JSON schema, tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from ui.chat.answer_settings import TypedSettings

REASONING_EFFORTS = (("as trained", ""), ("low", "low"), ("medium", "medium"), ("high", "high"))
"""Labels and values. `as trained` sends no effort: the server uses the one in the checkpoint's manifest."""

PRESETS = {
    "Brief": "Answer in at most three sentences. Say so if you do not know.",
    "Step by step": "Work through the problem step by step, then give the result on a line of its own.",
    "Code reviewer": "You review code. Name each problem with its line and the fix, the most serious first.",
    "JSON only": "Answer with one JSON object and nothing else.",
}
"""System prompts that everybody is offered; a person's own are kept in the browser."""

SECRET = "tuneyard"
"""Gradio obscures what it keeps in the browser. With a random one, its default, a restart would lose everything."""


class SettingsPanel:
    """The components, and how the browser keeps them. Lay it out inside a sidebar."""

    def __init__(self, system_prompt: str, temperature: float) -> None:
        self._defaults = TypedSettings(temperature=temperature)
        self._system_prompt = system_prompt

    def lay_out(self) -> None:
        """Creates the components."""
        self.presets = gr.BrowserState({}, storage_key="tuneyard-presets", secret=SECRET)
        self.kept = gr.BrowserState(list(self._defaults), storage_key="tuneyard-settings", secret=SECRET)
        gr.Markdown("## Settings", elem_classes="ty-panel-title")
        self.system_prompt = gr.Textbox(
            self._system_prompt, label="System prompt", lines=3, max_lines=12, elem_id="system-prompt",
            placeholder="How the model should behave in this conversation",
        )  # fmt: skip
        with gr.Row(elem_classes="ty-row"):
            self.preset = gr.Dropdown(
                list(PRESETS), value=None, label="Preset", allow_custom_value=True, scale=3, min_width=120,
                elem_id="preset", info="Choose one, or type a name and save.",
            )  # fmt: skip
        with gr.Row(elem_classes="ty-row"):
            self.save_preset = gr.Button("Save preset", size="sm", min_width=80)
            self.drop_preset = gr.Button("Delete preset", size="sm", min_width=80)
        self.temperature = gr.Slider(0, 2, self._defaults.temperature, step=0.05, label="Temperature")
        self.top_p = gr.Slider(0.05, 1, 1, step=0.05, label="Top p")
        self.effort = gr.Radio(REASONING_EFFORTS, value="", label="Reasoning effort")
        with gr.Row(elem_classes="ty-row"):
            self.max_tokens = gr.Number(None, label="Max tokens", precision=0, min_width=100, placeholder="no limit")
            self.seed = gr.Number(None, label="Seed", precision=0, min_width=100, placeholder="random")
        self.stop = gr.Textbox("", label="Stop at", lines=2, max_lines=4, placeholder="One text per line, up to four")
        self.json_schema = gr.Textbox(
            "", label="JSON schema of the answer", lines=3, max_lines=14, elem_classes="ty-mono",
            placeholder='{"type": "object", "properties": {}}',
        )  # fmt: skip
        self.tools = gr.Textbox(
            "", label="Tools", lines=3, max_lines=14, elem_classes="ty-mono",
            info="Functions that the model may call. You type in their results.",
            placeholder='[{"name": "weather", "parameters": {"type": "object", "properties": {"city": {}}}}]',
        )  # fmt: skip

    @property
    def fields(self) -> list[Any]:
        """The components of TypedSettings, in the order of its fields."""
        return [
            self.temperature, self.top_p, self.max_tokens, self.effort,
            self.seed, self.stop, self.json_schema, self.tools,
        ]  # fmt: skip

    def typed(self, values: Mapping[Any, Any]) -> TypedSettings:
        """What stands in the fields, from a handler's values."""
        return TypedSettings(*(values[field] for field in self.fields))

    def connect(self, blocks: gr.Blocks) -> None:
        """Keeps the fields in the browser: all in the page, without the server."""
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        blocks.load(None, self.kept, self.fields, js="(kept) => kept", **quiet)
        self.presets.change(self._choices, self.presets, self.preset, **quiet)
        gr.on([field.change for field in self.fields], None, self.fields, self.kept, js="(...kept) => [kept]", **quiet)
        self.preset.select(self._apply, [self.preset, self.presets], self.system_prompt, **quiet)
        naming = [self.preset, self.system_prompt, self.presets]
        self.save_preset.click(self._save, naming, [self.presets, self.preset], **quiet)
        self.drop_preset.click(self._drop, naming[::2], [self.presets, self.preset], **quiet)

    def _choices(self, own: dict[str, str]) -> Any:
        return gr.update(choices=list(PRESETS | own))

    def _apply(self, name: str, own: dict[str, str]) -> Any:
        return (PRESETS | own).get(name, gr.skip())

    def _save(self, name: str | None, prompt: str, own: dict[str, str]) -> tuple[dict[str, str], Any]:
        if not name or not prompt.strip():
            gr.Info("Type a system prompt and a name for it, then save.")
            return own, gr.skip()
        own = own | {name: prompt}
        gr.Info(f"Preset “{name}” is kept in this browser.")
        return own, gr.update(choices=list(PRESETS | own), value=name)

    def _drop(self, name: str | None, own: dict[str, str]) -> tuple[dict[str, str], Any]:
        own = {kept: prompt for kept, prompt in own.items() if kept != name}
        return own, gr.update(choices=list(PRESETS | own), value=None)
