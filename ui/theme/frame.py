"""HTML that all pages share: the mark, the way between pages, buttons that open drawers."""

from __future__ import annotations

from html import escape

MARK = (
    '<svg class="ty-mark" viewBox="0 0 32 32" aria-hidden="true"><g fill="none" stroke-linecap="round" '
    'stroke-linejoin="round"><path d="M10.5 4v9a5.5 5.5 0 0 0 11 0V4M16 18.5V28" stroke="var(--ty-accent)" '
    'stroke-width="3.2"/><path d="M4.5 6v6M27.5 6v6" stroke="var(--ty-brass)" stroke-width="2.6"/></g></svg>'
)
"""A tuning fork, as in docs/images/mark.svg."""

PAGES = {"chat": ("Chat", "./"), "compare": ("Compare", "./compare"), "runs": ("Runs", "./runs")}
"""Pages by their names: the label and the path."""


def brand_html(title: str, current: str) -> str:
    """The mark, the title, and links to the pages."""
    links = "".join(
        f'<a href="{path}"{" aria-current=page" if name == current else ""}>{label}</a>'
        for name, (label, path) in PAGES.items()
    )
    return (
        f'<div class="ty-brand">{MARK}<h1>{escape(title)}</h1></div>'
        f'<nav class="ty-pages" aria-label="Pages">{links}</nav>'
    )


def drawer_button(drawer: str, icon: str, label: str) -> str:
    """A button that opens and closes the sidebar with that element id."""
    return (
        f'<button type="button" class="ty-icon ty-icon-large" data-drawer="{drawer}" title="{label}" '
        f'aria-label="{label}" aria-expanded="false"><i class="ty-i ty-i-{icon}"></i></button>'
    )


def empty_state(title: str) -> str:
    """What an empty conversation shows above its examples."""
    return (
        f'<div class="ty-empty">{MARK}<h2>{escape(title)}</h2>'
        "<p>Ask the model anything. Conversations are kept in this browser only.</p></div>"
    )
