"""The pages of the site in the order of zensical.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG_NAME = "zensical.toml"


@dataclass(frozen=True)
class Navigation:
    """The site's name, description and sections of pages."""

    site_name: str
    description: str
    sections: tuple[tuple[str, tuple[str, ...]], ...]
    """Title and pages of each section; pages outside of any section are in one without a title."""

    @property
    def pages(self) -> list[str]:
        """All pages, relative to docs/."""
        return [page for _, pages in self.sections for page in pages]


def load_navigation(root: Path) -> Navigation:
    """The navigation of the project whose zensical.toml lies in `root`."""
    project = tomllib.loads((root / CONFIG_NAME).read_text(encoding="utf-8"))["project"]
    sections = tuple(_section(entry) for entry in project["nav"])
    return Navigation(project["site_name"], project["site_description"], sections)


def _section(entry: Any) -> tuple[str, tuple[str, ...]]:
    """An entry of `nav`: a page, a page with its own title, or a titled list of pages."""
    if isinstance(entry, str):
        return "", (entry,)
    ((title, pages),) = entry.items()
    return ("", (pages,)) if isinstance(pages, str) else (title, tuple(pages))
