"""Schemas without what a grammar cannot enforce: llguidance takes what is left."""

from __future__ import annotations

import json
from typing import Any

import llguidance
import pytest

from serve_apps.generation.schema_relaxation import UNENFORCEABLE_KEYWORDS, enforceable_part, find_unenforceable

TEXT = {"type": "string"}
UNENFORCEABLE: dict[str, dict[str, Any]] = {
    "uniqueItems": {"type": "array", "items": TEXT, "uniqueItems": True},
    "propertyNames": {"type": "object", "propertyNames": TEXT, "additionalProperties": TEXT},
    "not": {"type": "string", "not": {"const": "x"}},
    "path": {"type": "string", "format": "path"},
    "password": {"type": "string", "format": "password"},
    "binary": {"type": "string", "format": "binary"},
    "jwt": {"type": ["string", "null"], "format": "jwt"},
    "if": {"if": TEXT, "then": TEXT, "else": TEXT},
    "lookahead": {"type": "string", "pattern": r"^(?!\.)a+$"},
    "a property": {"type": "object", "properties": {"not": {"type": "array", "uniqueItems": True}}},
    "a definition": {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"type": "string", "format": "path"}]}}},
    "items": {"type": "array", "items": {"type": "object", "additionalProperties": {"contains": TEXT}}},
}


def refusal(schema: dict[str, Any]) -> str:
    grammar = f"%llguidance {{}}\nstart: %json {json.dumps(schema)}"
    return str(llguidance.LLMatcher.validate_grammar(grammar, llguidance.LLTokenizer("byte")))


@pytest.mark.parametrize("schema", UNENFORCEABLE.values(), ids=UNENFORCEABLE.keys())
def test_the_rest_can_be_enforced(schema: dict[str, Any]) -> None:
    before = json.dumps(schema)
    assert refusal(schema)
    assert list(find_unenforceable(schema))
    relaxed = enforceable_part(schema)
    assert refusal(relaxed) == ""
    assert list(find_unenforceable(relaxed)) == []
    assert json.dumps(schema) == before


def test_names_and_values_that_look_like_keywords_stay() -> None:
    schema = {
        "type": "object",
        "properties": {
            "not": TEXT,
            "uniqueItems": {"enum": ["if", {"not": 1}]},
            "n": {"type": "integer", "format": "int64"},
        },
        "required": ["not"],
        "additionalProperties": False,
    }
    assert list(find_unenforceable(schema)) == []
    assert enforceable_part(schema) == schema
    assert refusal(schema) == ""


def test_each_keyword_is_one_that_llguidance_refuses() -> None:
    for keyword in UNENFORCEABLE_KEYWORDS:
        assert keyword in refusal({"type": "object", keyword: {}}), keyword


@pytest.mark.parametrize("kind", [5, True, {"a": 1}, None, ["string", 5]])
def test_a_type_that_is_no_name_does_not_break_the_search(kind: Any) -> None:
    list(find_unenforceable({"type": "object", "properties": {"a": {"type": kind, "format": "uri-x"}}}))
