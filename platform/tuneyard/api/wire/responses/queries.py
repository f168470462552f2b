"""Query parameters of the routes of stored responses."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field

from tuneyard.api.wire.base import WireModel

_LABELS = ("include", "include[]", "include_obfuscation", "starting_after")
"""Parameters of OpenAI that change nothing here: a stored response holds all that `include` could add."""


class _Query(WireModel):
    """Query parameters; values are text, which is converted."""

    @classmethod
    def parse(cls, body: Any) -> Self:
        return super().parse({name: value for name, value in body.items() if name not in _LABELS})


class RetrieveQuery(_Query):
    """The query of GET /v1/responses/{id}. A stored response is answered whole, never as events."""

    stream: Literal["false", "False", "0"] = "false"


class ItemPage(_Query):
    """The query of GET /v1/responses/{id}/input_items."""

    limit: int = Field(default=20, ge=1, le=100)
    """The most items of the page."""
    order: Literal["asc", "desc"] = "desc"
    """`desc`: the newest item first."""
    after: str | None = None
    """The id of the item before the page."""
