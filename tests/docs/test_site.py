"""The real site: it builds without a broken link, every page is in it, and nothing comes from another host."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from docs.tooling.build import ROOT, build_site
from docs.tooling.navigation import CONFIG_NAME, load_navigation
from docs.tooling.plain_pages import page_summary, page_title
from docs.tooling.reference import REFERENCE_PAGES

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the documentation's sources: Zensical builds beside them."""
    project = tmp_path_factory.mktemp("project")
    ignored = shutil.ignore_patterns("reference", "__pycache__")
    shutil.copytree(DOCS, project / "docs", ignore=ignored)
    shutil.copy(ROOT / CONFIG_NAME, project)
    return project


@pytest.fixture(scope="module")
def built(project: Path) -> tuple[Path, list[str]]:
    """The built site, and its problems."""
    problems = build_site(project)
    return project / "site", problems


def test_the_site_builds_and_no_link_is_broken(built: tuple[Path, list[str]]) -> None:
    _, problems = built
    assert not problems, "make docs-build says:\n" + "\n".join(problems)


def test_every_page_is_in_the_navigation() -> None:
    pages = {path.name for path in DOCS.glob("*.md")} | {f"reference/{name}" for name in REFERENCE_PAGES}
    listed = load_navigation(ROOT).pages
    assert sorted(listed) == sorted(pages), f"nav in {CONFIG_NAME} and the pages in docs/ differ"


def test_every_page_of_llms_txt_exists_as_markdown_and_as_html(built: tuple[Path, list[str]]) -> None:
    site, _ = built
    names = re.findall(r"^- \[[^\]]+\]\(([^)]+)\): \S", (site / "llms.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert names == load_navigation(ROOT).pages
    for name in names:
        assert (site / name).is_file()
        html = (site / name).with_suffix(".html").read_text(encoding="utf-8")
        assert f'type="text/markdown" href="./{Path(name).name}"' in html


def test_only_what_readers_need_is_in_the_site(built: tuple[Path, list[str]]) -> None:
    site, _ = built
    assert [path for path in site.rglob("*") if path.suffix == ".py" or path.name == "tooling"] == []
    assert (site / "search.js").is_file()
    assert (site / "images" / "favicon.svg").is_file()


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_a_page_has_a_title_and_a_first_sentence(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# "), "the first line must be the title"
    assert page_title(text)
    assert page_summary(text), "llms.txt needs a first paragraph"
    assert "```mermaid" not in text, "draw an SVG in docs/images/: Mermaid would be loaded from another host"


def test_no_page_is_a_stub() -> None:
    stubs = [path.name for path in sorted(DOCS.glob("*.md")) if "<!-- STUB -->" in path.read_text(encoding="utf-8")]
    assert not stubs, "these pages are not written yet"


def test_broken_links_are_found(project: Path, tmp_path: Path) -> None:
    broken = tmp_path / "project"
    shutil.copytree(project, broken, ignore=shutil.ignore_patterns("site", ".cache", "reference"))
    page = broken / "docs" / "security.md"
    page.write_text(
        "# Security\n\nText: [a](none.md), [b](serving.md#none), ![c](images/none.svg).\n", encoding="utf-8"
    )
    problems = "\n".join(build_site(broken))
    assert "page does not exist" in problems
    assert "anchor does not exist" in problems
    assert "loads images/none.svg, which does not exist" in problems.replace("./images", "images")
    assert "Traceback" not in problems
