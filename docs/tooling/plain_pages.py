"""llms.txt, and each page as plain Markdown beside its HTML.

The built site has getting-started.html and getting-started.md, so links between pages work in both.
"""

from __future__ import annotations

import re
from pathlib import Path

from docs.tooling.navigation import Navigation, load_navigation

HEADING_ATTRIBUTES = re.compile(r"^(#+ .*?)\s*\{[^{}]*\}\s*$")
PARAGRAPH_ATTRIBUTES = re.compile(r"^\{\s*[.#:][^{}]*\}\s*$")
COMMENT = re.compile(r"^\s*<!--.*-->\s*$")
WRAPPER = re.compile(r"^</?div[^>]*>\s*$")
FENCE = re.compile(r"^\s*(`{3,}|~{3,})")


def write_plain_pages(root: Path, site: Path) -> None:
    """Writes llms.txt and the Markdown of every page into the built site."""
    navigation = load_navigation(root)
    pages = {name: (root / "docs" / name).read_text(encoding="utf-8") for name in navigation.pages}
    for name, text in pages.items():
        target = site / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(plain_markdown(text), encoding="utf-8")
    (site / "llms.txt").write_text(render_llms_txt(navigation, pages), encoding="utf-8")


def plain_markdown(text: str) -> str:
    """A page without what is for the tools only: attributes in braces, comments, and `div` tags."""
    lines, fence = [], ""
    for line in text.splitlines():
        marker = FENCE.match(line)
        if fence:
            fence = "" if marker and marker[1].startswith(fence) else fence
        elif marker:
            fence = marker[1]
        elif any(pattern.match(line) for pattern in (PARAGRAPH_ATTRIBUTES, COMMENT, WRAPPER)):
            continue
        else:
            line = HEADING_ATTRIBUTES.sub(r"\1", line)
        lines.append(line)
    return "\n".join(lines) + "\n"


def render_llms_txt(navigation: Navigation, pages: dict[str, str]) -> str:
    """The index of all pages for language models, in the form of https://llmstxt.org."""
    parts = [f"# {navigation.site_name}", f"> {navigation.description}"]
    for title, names in navigation.sections:
        lines = [f"- [{page_title(pages[name])}]({name}): {page_summary(pages[name])}" for name in names]
        parts += [f"## {title}"] if title else []
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def page_title(text: str) -> str:
    """The text of a page's first heading."""
    return next((line[2:].strip() for line in text.splitlines() if line.startswith("# ")), "")


def page_summary(text: str) -> str:
    """The first sentence of a page's first paragraph, without links and emphasis."""
    body = plain_markdown(text).split("\n\n")
    is_prose = re.compile(r"[\w`*\[\"']")
    paragraph = next((" ".join(part.split()) for part in body if is_prose.match(part.strip())), "")
    paragraph = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", paragraph).replace("**", "")
    return re.split(r"(?<=[.!?])\s+(?=[A-Z`])", paragraph)[0]
