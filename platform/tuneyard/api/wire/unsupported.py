"""OpenAI's parameters that this server does not support."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from tuneyard.core.errors import RequestError

UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "function_call": ("auto", "none"),
    "functions": ([],),
    "modalities": (["text"],),
    "prediction": (),
    "store": (False,),
    "suffix": ("",),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""Each unsupported parameter with the values that change nothing, which are therefore accepted."""


def without_unsupported(body: dict[str, Any], supported: Collection[str]) -> dict[str, Any]:
    """Returns the body without nulls and without unsupported parameters that change nothing.

    `supported` names the parameters that the route has after all. Raises RequestError for an unsupported parameter
    whose value would change the answer.
    """
    kept = {name: value for name, value in body.items() if value is not None}
    for name, harmless_values in UNSUPPORTED.items():
        if name in kept and name not in supported:
            value = kept.pop(name)
            if not any(_is_same(value, harmless) for harmless in harmless_values):
                raise RequestError(_refusal(name, harmless_values), param=name, code="unsupported")
    return kept


def _refusal(name: str, harmless_values: tuple[Any, ...]) -> str:
    """The message for an unsupported parameter, with the values that would be accepted."""
    values = " or ".join(json.dumps(value) for value in harmless_values)
    accepted = f" Leave it out, or send {values}." if values else " Leave it out."
    return f"{name!r} is not supported by this server.{accepted}"


def _is_same(value: Any, harmless: Any) -> bool:
    """Whether two JSON values are equal. 0 equals 0.0, but not false."""
    if type(value) is type(harmless):
        return bool(value == harmless)
    is_number = isinstance(value, int | float) and isinstance(harmless, int | float)
    return is_number and not isinstance(value, bool) and not isinstance(harmless, bool) and value == harmless
