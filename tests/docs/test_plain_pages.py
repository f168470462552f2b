from __future__ import annotations

from docs.tooling.navigation import Navigation
from docs.tooling.plain_pages import page_summary, page_title, plain_markdown, render_llms_txt

PAGE = """\
# Title

<!-- STUB -->

See [the **other** page](other.md) and `x.y`. It says more.
{ .lead }

## Part { #part data-toc-label="p" }

<!-- test: run-it -->
```yaml
# comment { #kept }
{ .kept }
```

<div class="map" markdown>

A set {a, b} stays.

</div>
"""


def test_a_page_without_what_is_for_the_tools() -> None:
    plain = plain_markdown(PAGE)
    assert "## Part\n" in plain
    assert "lead" not in plain
    assert "STUB" not in plain
    assert "div" not in plain
    assert "```yaml\n# comment { #kept }\n{ .kept }\n```" in plain
    assert "A set {a, b} stays." in plain


def test_title_and_summary() -> None:
    assert page_title(PAGE) == "Title"
    assert page_summary(PAGE) == "See the other page and `x.y`."
    assert page_summary("# Title\n") == ""


def test_llms_txt() -> None:
    navigation = Navigation("Site", "What it is.", (("", ("index.md",)), ("Guide", ("a.md",))))
    text = render_llms_txt(navigation, {"index.md": "# Home\n\nHello.\n", "a.md": PAGE})
    assert text == (
        "# Site\n\n> What it is.\n\n- [Home](index.md): Hello.\n\n## Guide\n\n"
        "- [Title](a.md): See the other page and `x.y`.\n"
    )
