"""Lists of objects that are read in pages, and their query parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import Field

from tuneyard.api.wire.base import WireModel, without_nulls

Item = TypeVar("Item", bound=WireModel)


class PageQuery(WireModel):
    """Query parameters of a list; values are text, which is converted."""

    after: str | None = Field(default=None, max_length=200)
    """The id of the last object of the page before."""
    limit: int = Field(default=20, ge=1, le=100)
    """The most objects of the page."""
    order: Literal["asc", "desc"] = "desc"
    """`desc`: the newest object first."""

    @classmethod
    def parse(cls, body: Any) -> Self:
        """The query in the parameters of a request. Raises RequestError. Parameters without a value count as absent."""
        query = without_nulls(body)
        return super().parse({name: value for name, value in query.items() if value != ""})


class ObjectList(WireModel, Generic[Item]):
    """One page of a list. `has_more`: whether objects follow `last_id`."""

    object: Literal["list"] = "list"
    data: tuple[Item, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, items: Sequence[Item], *, has_more: bool) -> Self:
        """The page of these objects, which have ids."""
        ids = [str(getattr(item, "id")) for item in items]  # noqa: B009  # WireModel itself has no id
        return cls(
            data=tuple(items), first_id=ids[0] if ids else None, last_id=ids[-1] if ids else None, has_more=has_more
        )
