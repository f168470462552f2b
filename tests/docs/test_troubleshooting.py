"""The troubleshooting page quotes messages that the product still prints, and keeps its anchors apart."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.docs.command_blocks import DOCS, CommandBlock, command_blocks

ROOT = DOCS.parent
PRODUCT = ("platform/tuneyard", "jobs", "serve_apps", "ui")
GAP = "…"
"""Stands for a formatted value, in a quoted message and in the texts of the code."""

PAGE = "troubleshooting.md"
QUOTES = [block for block in command_blocks((DOCS / PAGE).read_text("utf-8"), PAGE) if block.language == "text"]


def _text_of(node: ast.expr) -> str:
    """The text of a string, an f-string or their sum, with GAP for each value; GAP for anything else."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text_of(part) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text_of(left) + _text_of(right)
    return GAP


def _product_texts() -> Iterator[str]:
    for folder in PRODUCT:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp):
                    yield _text_of(node)


@pytest.fixture(scope="module")
def product_texts() -> list[str]:
    """Every text in the product's code that is long enough to be a message."""
    return [text for text in _product_texts() if len(text) > len(GAP) + 10]


def is_part_of(quote: str, text: str) -> bool:
    """Whether the fixed parts of the quote stand in the text, in their order."""
    pattern = ".*".join(re.escape(part) for part in quote.split(GAP) if part)
    return re.search(pattern, text, re.DOTALL) is not None


@pytest.mark.parametrize("quote", QUOTES, ids=lambda block: block.place)
def test_the_product_prints_what_the_page_quotes(quote: CommandBlock, product_texts: list[str]) -> None:
    text = quote.text.strip()
    assert any(is_part_of(text, found) for found in product_texts), f"no message in the code reads: {text}"


def test_every_entry_has_an_anchor_of_its_own() -> None:
    headings = re.findall(r"^### .*$", (DOCS / PAGE).read_text("utf-8"), re.MULTILINE)
    anchors = [match[1] for heading in headings if (match := re.search(r"\{ #([a-z0-9-]+) \}$", heading))]
    assert len(anchors) == len(headings), "give each entry an anchor: ### Title { #anchor }"
    assert len(set(anchors)) == len(anchors), "two entries share an anchor"
    assert len(anchors) >= 40


def test_a_quote_is_found_only_in_its_order() -> None:
    assert is_part_of("Port … on … is taken", "Port … on … is taken (…). Stop it")
    assert not is_part_of("is taken … Port", "Port … is taken")
    assert not is_part_of("Port … is free", "Port … is taken")
