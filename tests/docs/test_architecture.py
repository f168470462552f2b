"""The architecture page names files, functions and rooms that exist."""

from __future__ import annotations

import re

import pytest

from tests.docs.command_blocks import DOCS

ROOT = DOCS.parent
PAGE = (DOCS / "architecture.md").read_text(encoding="utf-8")
STEPS = re.findall(r"^\| [^|]+ \| `([^`]+\.py)` \| `(\w+)` \|$", PAGE, re.MULTILINE)
PATHS = sorted(set(re.findall(r"`((?:platform|jobs|serve_apps|ui|tests)/[\w./-]+)`", PAGE)))


@pytest.mark.parametrize(("path", "name"), STEPS, ids=[name for _, name in STEPS])
def test_each_step_is_where_the_page_says(path: str, name: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    assert re.search(rf"^\s*(class|def|async def) {name}\b", text, re.MULTILINE), f"{path} defines no {name}"


@pytest.mark.parametrize("path", PATHS)
def test_each_named_path_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_tree_shows_every_room() -> None:
    tree = PAGE.split("```text\n")[1].split("```")[0]
    shown = {name for line in tree.splitlines() for name in re.findall(r"(\w+)/", line.split("  the ")[0])}
    for place in ("platform/tuneyard", "jobs", "serve_apps"):
        rooms = {path.parent.name for path in (ROOT / place).glob("*/__init__.py")}
        assert rooms <= shown, f"the tree of docs/architecture.md lacks rooms of {place}"
    assert len(STEPS) >= 15
