"""What of a JSON schema cannot be enforced, and the schema without it.

Grammars are llguidance's, which refuses a schema for one keyword that it does not implement. Keywords that only
describe (title, format of a number, x-...) are ignored there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

UNENFORCEABLE_KEYWORDS = frozenset(
    {
        "$dynamicRef",
        "contains",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "else",
        "if",
        "maxContains",
        "minContains",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
        "uniqueItems",
    }
)
"""JSON Schema's keywords that llguidance 1.9 does not implement."""

ENFORCEABLE_FORMATS = frozenset(
    {"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "unknown", "uri", "uuid"}
)
"""Formats of strings that llguidance 1.9 knows."""

_REGEX_LOOKAROUND = re.compile(r"\(\?<?[=!]|\\[1-9]")
"""Lookahead, lookbehind and back references, which no grammar of regular expressions has."""

_MAPS_OF_SCHEMAS = frozenset({"$defs", "definitions", "patternProperties", "properties"})
_LISTS_OF_SCHEMAS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_SCHEMAS = frozenset({"additionalItems", "additionalProperties", "items"})


def find_unenforceable(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The parts of a schema that cannot be enforced: the path of the schema around them, and keyword or format."""
    yield from _find(schema, "")


def enforceable_part(schema: dict[str, Any]) -> dict[str, Any]:
    """A copy of the schema without the parts that cannot be enforced. It allows all that the schema allows.

    `oneOf` becomes `anyOf`: llguidance takes a `oneOf` only where it sees that at most one branch can match, and there
    the two are equal.
    """
    relaxed: dict[str, Any] = {}
    for keyword, value in schema.items():
        if _is_unenforceable(keyword, value, schema):
            continue
        if keyword in _MAPS_OF_SCHEMAS and isinstance(value, dict):
            relaxed[keyword] = {name: _part(inner) for name, inner in value.items()}
        elif keyword in _LISTS_OF_SCHEMAS and isinstance(value, list):
            relaxed[keyword] = [_part(inner) for inner in value]
        elif keyword in _SCHEMAS:
            relaxed[keyword] = [_part(inner) for inner in value] if isinstance(value, list) else _part(value)
        else:
            relaxed[keyword] = value
    if "oneOf" in relaxed:
        branches = {"anyOf": relaxed.pop("oneOf")}
        others = relaxed.get("allOf")
        relaxed["allOf"] = [*(others if isinstance(others, list) else ()), branches]
    return relaxed


def _part(value: Any) -> Any:
    """The enforceable part of a schema; a boolean schema, or what is no schema at all, unchanged."""
    return enforceable_part(value) if isinstance(value, dict) else value


def _find(schema: Any, path: str) -> Iterator[tuple[str, str]]:
    if not isinstance(schema, dict):
        return
    for keyword, value in schema.items():
        if _is_unenforceable(keyword, value, schema):
            yield path or "/", f"format {value!r}" if keyword == "format" else f"keyword {keyword!r}"
        elif keyword in _MAPS_OF_SCHEMAS and isinstance(value, dict):
            for name, inner in value.items():
                yield from _find(inner, f"{path}/{keyword}/{name}")
        elif keyword in _LISTS_OF_SCHEMAS | _SCHEMAS:
            for number, inner in enumerate(value if isinstance(value, list) else ()):
                yield from _find(inner, f"{path}/{keyword}/{number}")
            yield from _find(value, f"{path}/{keyword}")


def _is_unenforceable(keyword: str, value: Any, schema: dict[str, Any]) -> bool:
    if keyword == "format":
        # llguidance reads formats of strings only.
        types = schema.get("type", "string")
        is_of_string = types == "string" or (isinstance(types, list) and "string" in types)
        return is_of_string and isinstance(value, str) and value not in ENFORCEABLE_FORMATS
    if keyword == "pattern":
        return isinstance(value, str) and _REGEX_LOOKAROUND.search(value) is not None
    return keyword in UNENFORCEABLE_KEYWORDS
