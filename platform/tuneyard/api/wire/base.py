"""WireModel, the base of every request and answer, and RequestModel, the base of what clients send."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Self, TypeVar

from pydantic import ConfigDict, Field, GetCoreSchemaHandler, ValidationError, model_validator
from pydantic_core import CoreSchema, core_schema

from tuneyard.api.wire.errors import request_error
from tuneyard.core.errors import RequestError
from tuneyard.core.strict_model import StrictModel

Item = TypeVar("Item")
Items = Annotated[tuple[Item, ...], Field(strict=False)]
"""A JSON array in a RequestModel. Strict types would take only a tuple, which JSON does not have."""


FAIL_FAST = {
    kind
    for kind in ("list", "tuple", "set", "dict")
    if "fail_fast" in inspect.signature(getattr(core_schema, f"{kind}_schema")).parameters
}
"""Kinds of core schemas that can end with their first problem; maps since pydantic 2.13."""

MAX_FIELDS = 1000
"""Fields of a JSON object that a model describes, unknown ones among them."""


def _end_with_first_problem(schema: Any) -> None:
    """Sets `fail_fast` in all arrays and maps of a core schema, whose parts are dictionaries, lists and tuples."""
    if isinstance(schema, dict):
        kind = schema.get("type")
        is_schema = isinstance(kind, str)  # else a map of a model's fields, one of which may be called "type"
        if is_schema and kind in FAIL_FAST:
            schema["fail_fast"] = True
        for name, part in schema.items():
            if not is_schema or name not in ("metadata", "default"):
                _end_with_first_problem(part)
    elif isinstance(schema, list | tuple):
        for part in schema:
            _end_with_first_problem(part)


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
    """A part of a request. Types are exact: "true" and 1 are no booleans. A null counts as absent.

    Of an array or a map only the first problem is found, and an object with very many fields is refused as a whole:
    pydantic makes an object of every problem, which takes a second for an array of 200,000 wrong items.
    """

    model_config = ConfigDict(strict=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The schema of the model, whose arrays and maps end with their first problem."""
        schema = handler(source)
        _end_with_first_problem(schema)
        return schema

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > MAX_FIELDS:
            raise ValueError(f"must have at most {MAX_FIELDS} fields, found {len(value)}")
        return without_nulls(value)


def without_nulls(value: Any) -> Any:
    """A JSON object without its fields that are null, not those of objects in it; any other value unchanged."""
    return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value
