"""Text of models and people as Markdown that can hold no HTML: what is written as `<div>` is shown as `<div>`."""

from __future__ import annotations

import re
from typing import Any

JOINER = "\u2060"
"""Word joiner: invisible, and no tag starts with it. The page removes it from the text that it displays (chat.js), so
that copied code has none. Escaping `<` as `&lt;` would need to know what is code, where Markdown shows entities as
they are; the joiner is right in prose and in code alike, in the middle of a stream too."""

LATEX_DELIMITERS: list[dict[str, Any]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]
"""For gr.Chatbot."""

_FORMULA = re.compile("|".join(rf"{re.escape(d['left'])}[\s\S]+?{re.escape(d['right'])}" for d in LATEX_DELIMITERS))
_TAG_START = re.compile(r"<(?=[A-Za-z/!?])(?!https?://[^\s<>]+>)")
"""Where an HTML tag, comment or declaration may start, by the HTML standard; not Markdown's `<https://...>`."""
_IMAGE_START = re.compile(r"!(?=\[)")
_DIAGRAM_START = re.compile(r"(?m)^(\s*`{3,}|\s*~{3,})mermaid\b")
"""Gradio draws such blocks with a program of megabytes that also renders HTML."""


def as_markdown(text: str) -> str:
    """The text with every HTML tag, image and diagram displayed as text. Formulas stay as they are."""
    pieces = []
    end = 0
    for formula in _FORMULA.finditer(text):
        pieces += [_without_html(text[end : formula.start()]), _TAG_START.sub("< ", formula.group())]
        end = formula.end()
    return "".join([*pieces, _without_html(text[end:])])


def _without_html(text: str) -> str:
    text = _DIAGRAM_START.sub(r"\1 mermaid", text)
    return _IMAGE_START.sub(f"!{JOINER}", _TAG_START.sub(f"<{JOINER}", text))
