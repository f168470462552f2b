"""Choices between types by their field `type`, and the errors that name a type that is not supported."""

from __future__ import annotations

from typing import Any

from tuneyard.core.errors import RequestError


def tag_of_type(value: Any) -> str:
    """The tag of a value in a union: its field `type`, by default `message`, with a suffix.

    The suffix makes it no identifier, so that `request_error` leaves it out of the parameter's path.
    """
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"{kind or 'message'}-type"


def tag_of_shape(value: Any) -> str:
    """The tag of a value that is text or an array."""
    return "text-shape" if isinstance(value, str) else "array-shape"


def require_objects(values: Any, param: str) -> list[dict[str, Any]]:
    """The array as it is. Raises RequestError that names what is no array or no object."""
    if not isinstance(values, list):
        raise RequestError(f"Invalid value for {param!r}: must be an array.", param=param, code="invalid_value")
    for index, value in enumerate(values):
        if not isinstance(value, dict):
            name = f"{param}.{index}"
            raise RequestError(f"Invalid value for {name!r}: must be an object.", param=name, code="invalid_value")
    return values


def unsupported_type(kind: Any, param: str, supported: tuple[str, ...], fix: str = "") -> RequestError:
    """The error for a `type` that this server does not have. `fix` is a further sentence."""
    return RequestError(
        f"{param} has type {kind!r}, which this server does not support; supported: {', '.join(supported)}. "
        f"{fix}".rstrip(),
        param=param,
        code="unsupported",
    )
