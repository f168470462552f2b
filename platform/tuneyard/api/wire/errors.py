"""OpenAI's error object, and validation errors translated into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from tuneyard.core.errors import RequestError
from tuneyard.core.wording import count_of

_REQUIREMENTS = {
    "string": "must be a string",
    "bool": "must be a boolean",
    "int": "must be an integer",
    "float": "must be a number",
    "list": "must be an array",
    "tuple": "must be an array",
    "dict": "must be an object",
    "model": "must be an object",
    "date": "must be a date, such as 2026-01-31",
    "none": "must be null",
}
"""What a value must be, by the first word of pydantic's error type (`tuple_type`, `int_parsing`)."""


def error_body(error: RequestError) -> dict[str, Any]:
    """Returns OpenAI's error object for an error."""
    return {"error": {"message": error.message, "type": error.error_type, "param": error.param, "code": error.code}}


def request_error(error: ValidationError) -> RequestError:
    """Translates the first problem that pydantic found; `param` is the dotted path, such as `messages.0.role`."""
    first = error.errors()[0]
    # Pydantic adds the name of the union's branch ("str", "list[TextPart]"), which means nothing to a client.
    path = [str(p) for p in first["loc"] if isinstance(p, int) or (p.isidentifier() and p != "str")]
    param = ".".join(path)
    if first["type"] == "extra_forbidden":
        return RequestError(f"Unknown parameter: {param!r}.", param=param, code="unknown_parameter")
    if first["type"] == "missing":
        return RequestError(f"Missing required parameter: {param!r}.", param=param, code="missing_required_parameter")
    requirement = _requirement(first["type"], first.get("ctx", {}), first["msg"])
    return RequestError(f"Invalid value for {param!r}: {requirement}.", param=param, code="invalid_value")


def _requirement(kind: str, context: Mapping[str, Any], message: str) -> str:
    """Returns what the value must be, in the terms of JSON; pydantic's own message for rare kinds of errors."""
    match kind:
        case "literal_error":
            return f"must be {context['expected']}"
        case "greater_than_equal":
            return f"must be at least {context['ge']:g}"
        case "greater_than":
            return f"must be greater than {context['gt']:g}"
        case "less_than_equal":
            return f"must be at most {context['le']:g}"
        case "less_than":
            return f"must be less than {context['lt']:g}"
        case "too_short":
            return f"must have at least {count_of(context['min_length'], 'item')}"
        case "too_long":
            return f"must have at most {count_of(context['max_length'], 'item')}"
        case "string_pattern_mismatch":
            return f"must match {context['pattern']}"
        case "value_error":
            # Raised by a validator of ours, as a complete phrase.
            return str(context["error"])
        case "union_tag_not_found":
            return f"must have a field {context['discriminator'].strip(chr(39))!r}"
        case "union_tag_invalid":
            return f"the field {context['discriminator']} must be one of {context['expected_tags']}"
    return _REQUIREMENTS.get(kind.split("_")[0], message)
