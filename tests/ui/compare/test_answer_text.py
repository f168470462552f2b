from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ui.compare.answer_text import AnswerText
from ui.compare.differences import split_words

TAGS = frozenset(
    ["p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "em", "strong", "s", "a",
     "br", "hr", "table", "thead", "tbody", "tr", "th", "td", "div", "mark"]
)  # fmt: skip
ATTRIBUTES = frozenset({"dir", "href", "title", "target", "rel", "tabindex", "class", "start", "style"})

pieces = st.sampled_from(
    ["<div style='position:fixed'>", "<img src=x onerror=alert(1)>", "![x](http://evil/x.png)", "<script>", "</mark>",
     "[a](javascript:alert(1))", "[b](https://a.example/?q=\"><b>)", "**bold**", "`a<b`", "\n\n", "- item\n", "<mark>",
     "| a | b |\n|---|---|\n| <i> | 2 |\n", "```html\n<script>alert(1)</script>\n```\n", "\\(x<y\\)", "$$", "\\[",
     "a<b and c>d", "&lt;", "&#60;b&#62;", "> quote\n", "1. one\n", "# head\n", "<https://x.example/>", "\\",
     "~~gone~~", "  \n", "\0"]
)  # fmt: skip
texts = st.lists(pieces | st.text(max_size=12), max_size=12).map("".join)


class Reader(HTMLParser):
    """Collects the tags, attributes and text of a document."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


@given(texts)
def test_a_text_can_hold_nothing_but_markdown(text: str) -> None:
    reader = read(AnswerText(text).html())
    assert reader.tags <= TAGS - {"mark"}
    assert {name for name, _ in reader.attributes} <= ATTRIBUTES
    for name, value in reader.attributes:
        if name == "href":
            assert re.match(r"(https?|mailto|ftp):|[^:]*$", value or ""), value
        if name == "style":
            assert re.fullmatch(r"text-align:(left|right|center)", value or "")


@given(texts, st.sets(st.integers(0, 40)))
def test_marks_change_nothing_else(text: str, marked: set[int]) -> None:
    answer = AnswerText(text)
    with_marks = answer.html(marked)
    # A mark of the page has no attribute, and one in the text is escaped.
    assert with_marks.replace("<mark>", "").replace("</mark>", "") == answer.html()


@given(texts)
def test_all_words_can_be_marked(text: str) -> None:
    answer = AnswerText(text)
    html = answer.html(range(len(answer.words)))
    marked = re.findall(r"<mark>(.*?)</mark>", html, re.DOTALL)
    assert [word for part in marked for word in split_words("".join(read(part).text))] == answer.words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("if a<b and c>d", "if a<b and c>d"),
        ("use <div> here", "use <div> here"),
        ("**bold** and `x`", "bold and x"),
        ("the area is \\(\\pi r^2\\)", "the area is \\(\\pi r^2\\)"),
        ("![a picture](http://elsewhere/x.png)", "!a picture"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert "".join(read(AnswerText(text).html()).text).strip() == shown


def test_words_are_marked_where_they_stand() -> None:
    answer = AnswerText("Hold **ten** long seconds.\n\n- then wait")
    assert answer.words == ["Hold", "ten", "long", "seconds", ".", "then", "wait"]
    html = answer.html({1, 2, 3, 6})
    assert "<strong><mark>ten</mark></strong> <mark>long seconds</mark>." in html
    assert "then <mark>wait</mark>" in html


def test_the_direction_follows_the_text_and_links_open_apart() -> None:
    html = AnswerText("שלום עולם\n\n[docs](https://a.example)").html()
    assert '<p dir="auto">שלום' in html
    assert 'rel="noopener noreferrer nofollow"' in html
    assert 'target="_blank"' in html
