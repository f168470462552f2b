"""Checks the built site: every internal link, anchor and image exists, and no page loads anything from another host.

Zensical's own strict mode covers Markdown links between pages only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED_ATTRIBUTES = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "image": ("href", "xlink:href"),
    "img": ("src", "srcset"),
    "input": ("src",),
    "link": ("href",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "track": ("src",),
    "use": ("href", "xlink:href"),
    "video": ("src", "poster"),
}
"""Attributes whose address a browser loads by itself."""

LINK_SCHEMES = ("http", "https", "mailto")
SCRIPTED_CLASSES = ("glightbox", "mermaid", "pyodide")
"""Classes for which the theme's script loads a library from a CDN."""


@dataclass
class SitePage:
    """What a built page refers to, with line numbers of the HTML."""

    ids: set[str] = field(default_factory=set)
    links: list[tuple[int, str]] = field(default_factory=list)
    loads: list[tuple[int, str]] = field(default_factory=list)
    scripted: list[tuple[int, str]] = field(default_factory=list)


class _PageParser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = SitePage()
        self._inside_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        line, values = self.getpos()[0], {name: value or "" for name, value in attrs}
        self._inside_style = tag == "style"
        self.page.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "a" and "href" in values:
            self.page.links.append((line, values["href"]))
        for name in LOADED_ATTRIBUTES.get(tag, ()):
            if values.get(name):
                addresses = re.split(r"\s+[^,]*,?\s*", values[name]) if name == "srcset" else [values[name]]
                self.page.loads += [(line, address) for address in addresses if address]
        self.page.loads += [(line, address) for address in css_addresses(values.get("style", ""))]
        used = set(values.get("class", "").split())
        self.page.scripted += [(line, name) for name in SCRIPTED_CLASSES if name in used]

    def handle_data(self, data: str) -> None:
        if self._inside_style:
            self.page.loads += [(self.getpos()[0], address) for address in css_addresses(data)]

    def handle_endtag(self, tag: str) -> None:
        if tag == "style":
            self._inside_style = False


def css_addresses(css: str) -> Iterator[str]:
    """The addresses that a style sheet loads: `url(…)` and `@import "…"`; data URIs are none."""
    for match in re.finditer(r"""url\(\s*("[^"]*"|'[^']*'|[^)]*?)\s*\)|@import\s+("[^"]*"|'[^']*')""", css):
        address = (match[1] or match[2]).strip("\"'")
        if not address.startswith("data:"):
            yield address


def read_page(path: Path) -> SitePage:
    """What a built page refers to."""
    parser = _PageParser()
    parser.feed(path.read_text(encoding="utf-8"))
    parser.close()
    return parser.page


def check_site(site: Path) -> list[str]:
    """The problems of a built site, one a line; empty when all is well."""
    pages = {path: read_page(path) for path in sorted(site.rglob("*.html"))}
    problems = [] if pages else [f"{site}: no pages"]
    for path, page in pages.items():
        where = path.relative_to(site)
        for line, address in page.links:
            problems += [f"{where}:{line}: {problem}" for problem in _check_link(site, path, address, pages)]
        for line, address in page.loads:
            problems += [f"{where}:{line}: {problem}" for problem in _check_load(site, path, address)]
        for line, name in page.scripted:
            problems.append(f"{where}:{line}: class {name!r} makes the theme load a script from another host")
    for path in sorted(site.rglob("*.css")):
        for address in css_addresses(path.read_text(encoding="utf-8")):
            problems += [f"{path.relative_to(site)}: {problem}" for problem in _check_load(site, path, address)]
    return problems


def _check_load(site: Path, source: Path, address: str) -> Iterator[str]:
    parts = urlsplit(address)
    if parts.scheme == "data":
        return
    if parts.scheme or parts.netloc:
        yield f"loads {address} from another host"
    elif parts.path and _resolve(site, source, parts.path) is None:
        yield f"loads {address}, which does not exist"


def _check_link(site: Path, source: Path, address: str, pages: dict[Path, SitePage]) -> Iterator[str]:
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        yield from _check_external_link(address)
        return
    target = _resolve(site, source, parts.path) if parts.path else source
    if target is None:
        yield f"broken link {address}: no such file in the site"
    elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
        yield f"broken link {address}: {target.relative_to(site)} has no such anchor"


def _check_external_link(address: str) -> Iterator[str]:
    """Syntax only: nothing is asked over the network."""
    parts = urlsplit(address)
    if parts.scheme not in LINK_SCHEMES:
        yield f"link {address}: expected {', '.join(LINK_SCHEMES)} or a path"
    elif parts.scheme != "mailto" and not re.fullmatch(r"[A-Za-z0-9.-]+(:\d+)?|\[[0-9a-f:]+\](:\d+)?", parts.netloc):
        yield f"link {address}: {parts.netloc!r} is not a host"


def _resolve(site: Path, source: Path, path: str) -> Path | None:
    """The file that a relative address names; None when it does not exist or lies outside of the site."""
    base = site if path.startswith("/") else source.parent
    target = (base / unquote(path).lstrip("/")).resolve()
    if target.is_dir():
        target /= "index.html"
    return target if target.is_file() and target.is_relative_to(site.resolve()) else None
