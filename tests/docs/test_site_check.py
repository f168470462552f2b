from __future__ import annotations

from pathlib import Path

import pytest

from docs.tooling.site_check import check_site, css_addresses


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site without problems: two pages, a style sheet, an image."""
    site = tmp_path / "site"
    (site / "images").mkdir(parents=True)
    (site / "images" / "a.svg").write_text("<svg/>")
    (site / "style.css").write_text("body { background: url(images/a.svg) }")
    (site / "index.html").write_text(
        '<html><head><link rel="stylesheet" href="style.css"></head><body>'
        '<a href="guide/b.html#one">b</a> <a href="#here">here</a> <a href="https://example.com/x">out</a>'
        '<h2 id="here">Here</h2><img src="images/a.svg" srcset="images/a.svg 1x, images/a.svg 2x"></body></html>'
    )
    (site / "guide").mkdir()
    (site / "guide" / "b.html").write_text('<h1 id="one">One</h1><a href="../index.html">up</a> <a href="/">root</a>')
    return site


def problems_with(site: Path, html: str) -> list[str]:
    """The problems of the site after adding a page with this body."""
    (site / "page.html").write_text(f"<p>\n{html}</p>")
    return check_site(site)


def test_a_whole_site_has_no_problems(site: Path) -> None:
    assert check_site(site) == []


def test_an_empty_site_is_a_problem(tmp_path: Path) -> None:
    assert check_site(tmp_path) == [f"{tmp_path}: no pages"]


@pytest.mark.parametrize(
    ("html", "problem"),
    [
        ('<a href="none.html">x</a>', "broken link none.html: no such file in the site"),
        ('<a href="../outside.html">x</a>', "broken link ../outside.html: no such file in the site"),
        ('<a href="guide/b.html#two">x</a>', "broken link guide/b.html#two: guide/b.html has no such anchor"),
        ('<a href="#there">x</a>', "broken link #there: page.html has no such anchor"),
        ('<a href="guide/">x</a>', "broken link guide/: no such file in the site"),
        ('<a href="javascript:x()">x</a>', "link javascript:x(): expected http, https, mailto or a path"),
        ('<a href="https://not a host/">x</a>', "link https://not a host/: 'not a host' is not a host"),
        ('<img src="images/none.png">', "loads images/none.png, which does not exist"),
        ('<img src="https://example.com/a.png">', "loads https://example.com/a.png from another host"),
        ('<img srcset="//example.com/a.png 2x">', "loads //example.com/a.png from another host"),
        ('<script src="//cdn.example.com/x.js"></script>', "loads //cdn.example.com/x.js from another host"),
        ('<link href="https://fonts.example.com/css">', "loads https://fonts.example.com/css from another host"),
        ("<style>@import 'https://example.com/x.css'</style>", "loads https://example.com/x.css from another host"),
        ('<b style="background: url(none.png)">x</b>', "loads none.png, which does not exist"),
        (
            '<pre class="mermaid"><code>x</code></pre>',
            "class 'mermaid' makes the theme load a script from another host",
        ),
    ],
)
def test_each_problem_is_named_with_page_and_line(site: Path, html: str, problem: str) -> None:
    assert problems_with(site, html) == [f"page.html:2: {problem}"]


def test_data_uris_are_no_other_host(site: Path) -> None:
    assert problems_with(site, '<img src="data:image/png;base64,AA==">') == []


def test_a_style_sheet_may_load_from_no_other_host(site: Path) -> None:
    (site / "style.css").write_text('@font-face { src: url("https://fonts.example.com/a.woff2") }')
    assert check_site(site) == ["style.css: loads https://fonts.example.com/a.woff2 from another host"]


def test_addresses_of_a_style_sheet() -> None:
    css = "@import 'a.css'; b { c: url( d.png ) } e { f: url('g.png') } h { i: url(data:x) }"
    assert list(css_addresses(css)) == ["a.css", "d.png", "g.png"]
