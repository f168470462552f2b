"""WireModel, the base of every request and answer."""

from __future__ import annotations

from typing import Any, Self

from pydantic import ValidationError

from tuneyard.api.wire.errors import request_error
from tuneyard.core.errors import RequestError
from tuneyard.core.strict_model import StrictModel


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
