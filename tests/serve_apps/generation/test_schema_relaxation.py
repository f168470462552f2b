"""Schemas without what a grammar cannot enforce: llguidance takes what is left."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import llguidance
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


LEAVES = st.sampled_from(
    ({"type": "string"}, {"type": "integer"}, {"type": "number"}, {"enum": ["a", 1]}, {"const": "a"})
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda branches: {"oneOf": branches}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda one, other: {"oneOf": [one], "anyOf": [other]}, inner, inner),
        st.builds(lambda one, other: {"oneOf": [one], "allOf": [other]}, inner, inner),
        st.builds(lambda items: {"type": "array", "items": items}, inner),
        st.builds(lambda value: {"type": "object", "properties": {"a": value}}, inner),
    ),
    max_leaves=6,
)


@given(schema=SCHEMAS, value=st.sampled_from(("a", 1, 1.5, "b", ["a"], [1, "a"], {"a": "a"}, {"a": [1]}, {})))
def test_one_of_is_enforced_and_everything_valid_stays_valid(schema: dict[str, Any], value: Any) -> None:
    relaxed = enforceable_part(schema)
    # A schema that nothing satisfies, such as a string that is an integer, has no grammar either.
    assert "oneOf" not in refusal(relaxed)
    if jsonschema.Draft202012Validator(schema).is_valid(value):
        assert jsonschema.Draft202012Validator(relaxed).is_valid(value)
        assert refusal(relaxed) == ""


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
