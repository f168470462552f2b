"""The settings of an answer, from what a person typed. What cannot be sent is explained, with the field's name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from tuneyard.core.errors import TuneyardError

MAX_STOPS = 4
"""OpenAI's limit."""


class SettingError(TuneyardError):
    """A field of the settings holds something that cannot be sent."""


class TypedSettings(NamedTuple):
    """What stands in the fields of the side panel. A cleared field is None or empty."""

    temperature: float | None = 1.0
    top_p: float | None = 1.0
    max_tokens: float | None = None
    effort: str | None = ""
    seed: float | None = None
    stop: str | None = ""
    """One text per line."""
    json_schema: str | None = ""
    tools: str | None = ""
    """A JSON array of tools in OpenAI's form, or of bare functions."""


class AnswerSettings(NamedTuple):
    """Checked settings, named as the fields of ChatRequest."""

    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    reasoning_effort: str | None
    seed: int | None
    stop: tuple[str, ...]
    json_schema: dict[str, Any] | None
    tools: tuple[dict[str, Any], ...]


def read_settings(typed: TypedSettings) -> AnswerSettings:
    """Checks the fields. Raises SettingError for the first that cannot be sent."""
    return AnswerSettings(
        temperature=_number("Temperature", typed.temperature, 0, 2),
        top_p=_number("Top p", typed.top_p, 0, 1),
        # Gradio sends 0 for some empty number boxes.
        max_tokens=_whole("Max tokens", typed.max_tokens or None, 1),
        reasoning_effort=typed.effort or None,
        seed=_whole("Seed", typed.seed, 0),
        stop=_stops(typed.stop or ""),
        json_schema=_schema(typed.json_schema or ""),
        tools=_tools(typed.tools or ""),
    )


def _number(name: str, value: float | None, low: float, high: float) -> float | None:
    if value is not None and not low <= value <= high:
        raise SettingError(f"{name} is {value:g}; it must be from {low:g} to {high:g}.")
    return value


def _whole(name: str, value: float | None, low: int) -> int | None:
    if value is None:
        return None
    if value != int(value) or value < low:
        raise SettingError(f"{name} is {value:g}; it must be a whole number from {low}, or empty.")
    return int(value)


def _stops(text: str) -> tuple[str, ...]:
    stops = tuple(line for line in text.splitlines() if line)
    if len(stops) > MAX_STOPS:
        raise SettingError(f"Stop has {len(stops)} lines; at most {MAX_STOPS} texts can end an answer.")
    return stops


def _schema(text: str) -> dict[str, Any] | None:
    if not text.strip():
        return None
    schema = _json("JSON schema", text)
    if not isinstance(schema, dict):
        raise SettingError('JSON schema must be an object, such as {"type": "object", "properties": {}}.')
    return schema


def _tools(text: str) -> tuple[dict[str, Any], ...]:
    if not text.strip():
        return ()
    tools = _json("Tools", text)
    entries: Sequence[Any] = tools if isinstance(tools, list) else [tools]
    return tuple(_tool(number, entry) for number, entry in enumerate(entries, 1))


def _tool(number: int, entry: Any) -> dict[str, Any]:
    function = entry.get("function", entry) if isinstance(entry, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise SettingError(f'Tools: entry {number} has no function name. An entry is {{"name": …, "parameters": …}}.')
    return {"type": "function", "function": function}


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as e:
        raise SettingError(f"{name} is not JSON: {e.msg}, line {e.lineno}, column {e.colno}.") from e
