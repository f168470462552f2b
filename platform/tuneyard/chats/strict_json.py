"""JSON text parsed with the keys that stand twice in one object, of which Python's parser drops all but the last."""

from __future__ import annotations

import json
from typing import Any


class _RepeatedKeyError(Exception):
    pass


def _strict_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise _RepeatedKeyError
    return value


# One decoder for all texts: json.loads would make a new one for each.
_STRICT = json.JSONDecoder(object_pairs_hook=_strict_object)


def parse_json(text: str) -> tuple[Any, list[str]]:
    """The value of JSON text, and the keys that are repeated in one of its objects, in order.

    Raises json.JSONDecodeError, other ValueErrors (for example for an integer of over 4,300 digits) and
    RecursionError as json.loads does.
    """
    try:
        if text.startswith("{"):
            # raw_decode alone is faster, and reads no space before the value.
            value, end = _STRICT.raw_decode(text)
            if end == len(text):
                return value, []
        return _STRICT.decode(text), []
    except _RepeatedKeyError:
        return _parse_with_repetitions(text)


def _parse_with_repetitions(text: str) -> tuple[Any, list[str]]:
    repeated: list[str] = []

    def to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                repeated.append(key)
            seen.add(key)
        return dict(pairs)

    return json.loads(text, object_pairs_hook=to_object), repeated
