from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ui.chat.model_text import JOINER, as_markdown

PIECES = st.sampled_from(
    ["<", ">", "!", "[", "](x)", "`", "```", "\n", "div", "/p", "a", " ", "$$", "\\(", "\\)", "mermaid", "http://x.y/"]
)


@given(st.lists(PIECES, max_size=40).map("".join))
def test_no_tag_and_no_image_is_left_in_any_text(text: str) -> None:
    shown = as_markdown(text)
    starts = re.findall(r"<(?=[A-Za-z/!?])(?!https?://[^\s<>]+>)", shown)
    assert starts == []
    outside = re.sub(r"\$\$[\s\S]+?\$\$|\\\([\s\S]+?\\\)|\\\[[\s\S]+?\\\]", "", shown)
    assert "![" not in outside


@given(st.text(max_size=200))
def test_what_is_displayed_is_the_text(text: str) -> None:
    if "mermaid" not in text and "$$" not in text and "\\" not in text:
        assert as_markdown(text).replace(JOINER, "") == text.replace(JOINER, "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("if a<b and c>d", f"if a<{JOINER}b and c>d"),
        ("`<div>`", f"`<{JOINER}div>`"),
        ("![x](y)", f"!{JOINER}[x](y)"),
        ("1 < 2", "1 < 2"),
        ("<https://example.com/a>", "<https://example.com/a>"),
        ("\\(a<b\\)", "\\(a< b\\)"),
        ("```mermaid\ngraph", "``` mermaid\ngraph"),
    ],
)
def test_examples(text: str, shown: str) -> None:
    assert as_markdown(text) == shown
