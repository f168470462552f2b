"""Calls spelled as Python: `[tide_table(port="Ayr", day=2)]`. Parsed, never evaluated."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

_JSON_NAMES = {"true": True, "false": False, "null": None}


def parse_call_list(text: Any, names: Sequence[Any]) -> list[tuple[str, dict[str, Any]]] | None:
    """The name and arguments of each call in a text `[name(key=value, …), …]`; None if the text is no such list.

    `names` are the declared functions; names may have spaces. Values are literals of Python or JSON.
    """
    text = text.strip() if isinstance(text, str) else ""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    calls: list[tuple[str, dict[str, Any]]] = []
    rest = text[1:-1].strip()
    while rest:
        name, bracket, _ = rest.partition("(")
        end = _closing(rest, len(name)) if bracket else None
        if end is None or name.strip() not in names:
            return None
        arguments = _parse_arguments(rest[len(name) + 1 : end])
        if arguments is None:
            return None
        calls.append((name.strip(), arguments))
        rest = rest[end + 1 :].strip()
        if rest and not rest.startswith(","):
            return None
        rest = rest.removeprefix(",").strip()
    return calls or None


def _closing(text: str, start: int) -> int | None:
    """The position of the bracket that closes the one at `start`; None if it stays open. Quoted ones do not count."""
    depth, quote, position = 0, "", start
    while position < len(text):
        character = text[position]
        if quote:
            if character == "\\":
                position += 1
            elif character == quote:
                quote = ""
        elif character in "\"'":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    return None


def _parse_arguments(text: str) -> dict[str, Any] | None:
    try:
        tree = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(tree, ast.Call) or tree.args or any(word.arg is None for word in tree.keywords):
            return None
        return {str(word.arg): ast.literal_eval(_JsonNames().visit(word.value)) for word in tree.keywords}
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None


class _JsonNames(ast.NodeTransformer):
    """Reads JSON's true, false and null as literals."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.copy_location(ast.Constant(_JSON_NAMES[node.id]), node) if node.id in _JSON_NAMES else node
