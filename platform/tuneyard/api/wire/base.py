"""WireModel, the base of every request and answer, and RequestModel, the base of what clients send."""

from __future__ import annotations

from typing import Annotated, Any, Self, TypeVar

from pydantic import ConfigDict, Field, ValidationError, model_validator

from tuneyard.api.wire.errors import request_error
from tuneyard.core.errors import RequestError
from tuneyard.core.strict_model import StrictModel

Item = TypeVar("Item")
Items = Annotated[tuple[Item, ...], Field(strict=False)]
"""A JSON array in a RequestModel. Strict types would take only a tuple, which JSON does not have."""


class WireModel(StrictModel):
    """Refuses unknown fields: no parameter of a request is ever ignored silently."""

    @classmethod
    def parse(cls, body: Any) -> Self:
        """Returns the request in a decoded JSON body. Raises RequestError that names the parameter at fault."""
        if not isinstance(body, dict):
            raise RequestError(f"The body must be a JSON object, found {type(body).__name__}.")
        try:
            request = cls.model_validate(body)
        except ValidationError as e:
            raise request_error(e) from e
        request.check()
        return request

    def check(self) -> None:
        """Checks rules that concern more than one parameter. Raises RequestError; does nothing by default."""


class RequestModel(WireModel):
    """A part of a request. Types are exact: "true" and 1 are no booleans. A null counts as absent."""

    model_config = ConfigDict(strict=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return without_nulls(value)


def without_nulls(value: Any) -> Any:
    """A JSON object without its fields that are null, not those of objects in it; any other value unchanged."""
    return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value
