"""The page's theme and style sheet. System fonts only, so that nothing is loaded from other hosts."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ui.transcript import ERROR_SIGN, NOTE_SIGN

SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")

CSS = """
.gradio-container { width: 100% !important; max-width: 960px !important; margin: 0 auto !important; }
#header, #asking { align-items: center; gap: 8px; }
#title { flex: 1 1 160px; min-width: 0 !important; }
#title h1 { margin: 0; font-size: 1.3rem; line-height: 1.4; }
#refresh { padding: 6px 0; font-size: 1.1rem; }
#problem { border-left: 3px solid #dc2626; padding-left: 10px; }

/* The page itself never scrolls while chatting: the question box stays in sight. */
#chat { height: calc(100dvh - 196px) !important; min-height: 260px; flex: none !important; }
#chat .top-panel { display: none; }  /* gradio's own clear button, which would leave the history behind */
#chat .bot.message { border: none; background: none; box-shadow: none; padding-left: 4px; }
#chat .thought-group { background: none; margin: 0 0 10px; }
#chat .examples { gap: 10px; }
#chat .example { border: 1px solid var(--border-color-primary); border-radius: var(--radius-lg); padding: 12px 14px; }
#chat .example:hover { border-color: var(--color-accent); }

/* Notes and errors are plain text, so that copying an answer copies no markup; their first sign marks them. */
#chat [aria-label*="message: NOTE_SIGN "] p {
  font-size: 0.78rem; color: var(--body-text-color-subdued); margin: 6px 0 0;
}
#chat [aria-label*="message: ERROR_SIGN "] p {
  border-left: 3px solid #dc2626; padding: 2px 0 2px 10px; margin: 4px 0;
}

@media (max-width: 640px) {
  .gradio-container main { padding: 8px !important; }
  #title { flex: 1 1 100%; }
  #model, #question { flex: 1 1 0 !important; }
  #question { flex-basis: 100% !important; }
  #retry, #clear { flex: 1 1 0; }
  #chat { height: calc(100dvh - 282px) !important; }
}
""".replace("NOTE_SIGN", NOTE_SIGN).replace("ERROR_SIGN", ERROR_SIGN)


def build_theme() -> Any:
    """The Gradio theme."""
    theme = gr.themes.Soft(primary_hue="teal", secondary_hue="teal", neutral_hue="slate", font=SANS, font_mono=MONO)
    return theme.set(
        background_fill_primary="*neutral_50",  # `set` falls back to white where it is not given
        block_title_background_fill="none",
        block_title_background_fill_dark="none",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_padding="0",
        body_text_color_subdued="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
    )
