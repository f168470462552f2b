"""AnswerText: a model's Markdown as HTML in which nothing but Markdown has a meaning, with differences marked.

Tags, styles and scripts in the text are shown as text. Images are links: nothing is loaded. Formulas are shown as they
are written.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cache
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from ui.compare.differences import WORD

TEXT_TOKENS = frozenset({"text", "code_inline", "fence", "code_block"})
"""Tokens with text of their own."""

BLOCKS = frozenset({"paragraph_open", "heading_open", "list_item_open", "blockquote_open", "th_open", "td_open"})
"""Tokens whose direction, left to right or right to left, follows from their text."""

FORMULAS = (("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"))

_MARKED = "marked"
"""Key of the environment and of a token's meta."""


class AnswerText:
    """A Markdown text, its visible words, and its HTML."""

    def __init__(self, markdown: str) -> None:
        self._tokens = _parser().parse(markdown)
        self.words: list[str] = []
        for token in _text_tokens(self._tokens):
            start = len(self.words)
            self.words += WORD.findall(token.content)
            token.meta[_MARKED] = range(start, len(self.words))

    def html(self, marked: Collection[int] = frozenset()) -> str:
        """The text as HTML; words with an index in `marked` are in <mark>."""
        parser = _parser()
        return str(parser.renderer.render(self._tokens, parser.options, {_MARKED: marked}))


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    parser.disable(["image", "html_block", "html_inline"])
    parser.inline.ruler.before("escape", "formula", _read_formula)
    parser.core.ruler.push("attributes", _set_attributes)
    parser.add_render_rule("text", _render_text)
    parser.add_render_rule("code_inline", _render_inline_code)
    parser.add_render_rule("fence", _render_code)
    parser.add_render_rule("code_block", _render_code)
    parser.add_render_rule("table_open", _render_table_open)
    parser.add_render_rule("table_close", _render_table_close)
    return parser


def _read_formula(state: StateInline, silent: bool) -> bool:
    """Reads a formula as code: Markdown would take its backslashes away."""
    for opening, closing in FORMULAS:
        if state.src.startswith(opening, state.pos):
            end = state.src.find(closing, state.pos + len(opening), state.posMax)
            if end < 0:
                return False
            if not silent:
                token = state.push("code_inline", "code", 0)
                token.content = state.src[state.pos : end + len(closing)]
            state.pos = end + len(closing)
            return True
    return False


def _set_attributes(state: Any) -> None:
    for token in _walk(state.tokens):
        if token.type in BLOCKS:
            token.attrSet("dir", "auto")
        elif token.type == "link_open":
            token.attrSet("target", "_blank")
            token.attrSet("rel", "noopener noreferrer nofollow")


def _walk(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _walk(token.children or ())


def _text_tokens(tokens: Sequence[Token]) -> Iterator[Token]:
    return (token for token in _walk(tokens) if token.type in TEXT_TOKENS)


def _render_text(_: Any, tokens: Sequence[Token], index: int, __: Any, env: dict[str, Any]) -> str:
    return _marked_text(tokens[index], env)


def _render_inline_code(_: Any, tokens: Sequence[Token], index: int, __: Any, env: dict[str, Any]) -> str:
    return f"<code>{_marked_text(tokens[index], env)}</code>"


def _render_code(_: Any, tokens: Sequence[Token], index: int, __: Any, env: dict[str, Any]) -> str:
    return f'<pre tabindex="0"><code>{_marked_text(tokens[index], env)}</code></pre>\n'


def _render_table_open(*_: Any) -> str:
    return '<div class="wide" tabindex="0"><table>\n'


def _render_table_close(*_: Any) -> str:
    return "</table></div>\n"


def _marked_text(token: Token, env: dict[str, Any]) -> str:
    """The token's text as HTML. Marked words that follow each other share one <mark>, with the space between them."""
    marked: Collection[int] = env[_MARKED]
    pieces: list[str] = []
    end, mark_open = 0, False
    for number, match in zip(token.meta[_MARKED], WORD.finditer(token.content), strict=True):
        is_marked = number in marked
        space = escape(token.content[end : match.start()], quote=False)
        if mark_open and not is_marked:
            pieces.append("</mark>")
        pieces.append(space)
        if is_marked and not mark_open:
            pieces.append("<mark>")
        pieces.append(escape(match.group(), quote=False))
        end, mark_open = match.end(), is_marked
    if mark_open:
        pieces.append("</mark>")
    pieces.append(escape(token.content[end:], quote=False))
    return "".join(pieces)
