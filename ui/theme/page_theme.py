"""The Gradio theme. Colours are CSS variables of browser/tokens.css, which has them once for light and once for dark.

System fonts only, so that nothing is loaded from other hosts.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")

COLOURS = {
    "body_background_fill": "bg",
    "background_fill_primary": "surface",
    "background_fill_secondary": "bg",
    "block_background_fill": "surface",
    "block_border_color": "line",
    "block_label_text_color": "muted",
    "block_title_text_color": "text",
    "block_info_text_color": "muted",
    "body_text_color": "text",
    "body_text_color_subdued": "muted",
    "border_color_primary": "line",
    "border_color_accent": "accent",
    "border_color_accent_subdued": "line",
    "button_primary_background_fill": "primary",
    "button_primary_background_fill_hover": "primary-hover",
    "button_primary_text_color": "on-primary",
    "button_primary_text_color_hover": "on-primary",
    "button_secondary_background_fill": "raised",
    "button_secondary_background_fill_hover": "accent-soft",
    "button_secondary_text_color": "text",
    "button_secondary_text_color_hover": "text",
    "button_secondary_border_color": "line",
    "checkbox_label_background_fill": "raised",
    "checkbox_label_background_fill_selected": "accent-soft",
    "checkbox_label_text_color": "text",
    "checkbox_label_text_color_selected": "text",
    "checkbox_background_color": "field",
    "checkbox_background_color_focus": "field",
    "checkbox_background_color_hover": "field",
    "checkbox_border_color": "field-line",
    "code_background_fill": "code",
    "color_accent": "accent",
    "color_accent_soft": "accent-soft",
    "input_background_fill": "field",
    "input_background_fill_focus": "field",
    "input_border_color": "field-line",
    "input_border_color_focus": "accent",
    "input_placeholder_color": "muted",
    "link_text_color": "accent",
    "link_text_color_hover": "accent",
    "link_text_color_active": "accent",
    "link_text_color_visited": "accent",
    "loader_color": "accent",
    "panel_background_fill": "bg",
    "slider_color": "accent",
    "table_border_color": "line",
    "table_even_background_fill": "surface",
    "table_odd_background_fill": "bg",
    "table_text_color": "text",
}
"""Gradio's theme variables and ours, without their prefix `--ty-`."""


def build_theme() -> Any:
    """The Gradio theme: every colour from tokens.css, in light and in dark."""
    theme = gr.themes.Base(
        primary_hue="teal", secondary_hue="teal", neutral_hue="slate", font=SANS, font_mono=MONO, radius_size="lg",
    )  # fmt: skip
    known = set(vars(theme))
    values = {name: f"var(--ty-{colour})" for name, colour in COLOURS.items()}
    dark = {f"{name}_dark": value for name, value in values.items() if f"{name}_dark" in known}
    return theme.set(
        **values, **dark, block_shadow="none", block_shadow_dark="none", block_title_text_weight="600",
        block_label_background_fill="none", block_label_background_fill_dark="none",
        input_border_width="1px", input_border_width_dark="1px",
    )  # fmt: skip
