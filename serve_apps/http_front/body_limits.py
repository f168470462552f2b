"""The limits of a request's content: the one place where they are applied, for the bodies of all routes.

Everything here takes time that is linear in the size of the body. Limits of single characters, whose checking takes
longer, are applied where a prompt is made (serve_apps.generation.text_limits).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tuneyard.configs.http_limits import HttpLimits
from tuneyard.core.errors import RequestError


def check_content(body: Any, limits: HttpLimits) -> None:
    """Raises RequestError, which names the field, both numbers and the limit, for content beyond the limits.

    Content of another type than the field has is left to the field's own validation.
    """
    if not isinstance(body, dict):
        return
    _check_counts(body, limits)
    _check_prompt(body.get("prompt"), body.get("n"), limits)
    _check_texts(body, limits)
    for name, schema in _schemas(body):
        _check_schema(name, schema, limits)
    depth = json_depth(body)
    if depth > limits.json_depth:
        raise _limit_error("", f"The request nests {depth:,} arrays and objects in each other", "json_depth", limits)


def check_total_characters(characters: int, limits: HttpLimits) -> None:
    """Raises RequestError if all texts of a request together are too long."""
    if characters > limits.characters:
        raise _limit_error("", f"The request has {characters:,} characters of text", "characters", limits)


def check_item_count(name: str, count: int, limits: HttpLimits) -> None:
    """Raises RequestError if the list of messages or items in a field is too long."""
    _check_count(name, count, "messages", limits)


def json_depth(value: Any) -> int:
    """How many arrays and objects are nested in each other; 0 for a value that is neither."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return depth


def text_length(value: Any) -> int:
    """Characters of all strings in a JSON value, the names of its fields included."""
    characters, stack = 0, [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            characters += len(item)
        elif isinstance(item, dict):
            characters += sum(map(len, item))
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return characters


def _check_counts(body: dict[str, Any], limits: HttpLimits) -> None:
    """Checks how many items the lists of a request have, and how many answers it asks for."""
    for name, limit in (
        ("messages", "messages"),
        ("input", "messages"),
        ("tools", "tools"),
        ("stop", "stop_strings"),
        ("logit_bias", "logit_bias_entries"),
        ("tokens", "token_ids"),
    ):
        value = body.get(name)
        if isinstance(value, list | dict):
            _check_count(name, len(value), limit, limits)
    for name in ("n", "best_of"):
        value = body.get(name)
        if isinstance(value, int) and value > limits.choices:
            raise _limit_error(name, f"Invalid value for {name!r}: {value:,}", "choices", limits)
    stops = body.get("stop")
    for stop in stops if isinstance(stops, list) else [stops]:
        if isinstance(stop, str) and len(stop) > limits.stop_characters:
            raise _limit_error("stop", f"A stop string has {len(stop):,} characters", "stop_characters", limits)


def _check_prompt(prompt: Any, choices: Any, limits: HttpLimits) -> None:
    """Checks a prompt of token ids, or a list of prompts, each of which is text or token ids."""
    if not isinstance(prompt, list) or not prompt:
        return
    if not isinstance(prompt[0], str | list):
        _check_count("prompt", len(prompt), "token_ids", limits)
        return
    answers = len(prompt) * (choices if isinstance(choices, int) and choices > 0 else 1)
    if answers > limits.prompts:
        raise _limit_error("prompt", f"The prompts times 'n' make {answers:,} answers", "prompts", limits)
    for item in prompt:
        if isinstance(item, list):
            _check_count("prompt", len(item), "token_ids", limits)


def _check_count(name: str, count: int, limit: str, limits: HttpLimits) -> None:
    if count > getattr(limits, limit):
        raise _limit_error(name, f"Invalid value for {name!r}: it has {count:,} items", limit, limits)


def _check_texts(body: dict[str, Any], limits: HttpLimits) -> None:
    """Checks the length of each message and other text, and of all together."""
    characters = 0
    for name, value in body.items():
        is_list = isinstance(value, list) and name in ("messages", "input", "prompt", "tools")
        for index, item in enumerate(value if is_list else [value]):
            length = text_length(item)
            characters += length
            if length > limits.message_characters:
                param = f"{name}.{index}" if is_list else name
                raise _limit_error(param, f"{param!r} has {length:,} characters", "message_characters", limits)
    check_total_characters(characters, limits)


def _schemas(body: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The JSON schemas of a request, each with the name of its field."""
    tools = body.get("tools")
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        yield f"tools.{index}.function.parameters", _at(tool, "function", "parameters")
        yield f"tools.{index}.parameters", _at(tool, "parameters")
    yield "response_format.json_schema.schema", _at(body, "response_format", "json_schema", "schema")
    yield "text.format.schema", _at(body, "text", "format", "schema")


def _at(value: Any, *path: str) -> Any:
    """The value at a path of field names; None if there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _check_schema(name: str, schema: Any, limits: HttpLimits) -> None:
    if not isinstance(schema, dict):
        return
    depth = json_depth(schema)
    if depth > limits.schema_depth:
        raise _limit_error(name, f"The schema nests {depth:,} arrays and objects in each other", "schema_depth", limits)
    size = len(json.dumps(schema, ensure_ascii=False, separators=(",", ":")).encode())
    if size > limits.schema_bytes:
        raise _limit_error(name, f"The schema has {size:,} bytes", "schema_bytes", limits)


def _limit_error(param: str, found: str, limit: str, limits: HttpLimits) -> RequestError:
    return RequestError(
        f"{found}; the number must be at most {getattr(limits, limit):,} (http.limits.{limit}).",
        param=param or None,
        code="limit_exceeded",
    )
