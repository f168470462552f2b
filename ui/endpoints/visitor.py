"""Who uses the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Visitor(NamedTuple):
    """A person, or everybody together where nobody signs in."""

    owner: str = ""
    """A digest of the person's key, which tells people apart and is no secret; empty without a login."""
    key: str | None = None
    """The person's API key; None: the server's shared key."""


VisitorOf = Callable[[Any], Visitor]
"""Gives the visitor of a gr.Request."""


def anybody(request: Any) -> Visitor:  # noqa: ARG001
    """The visitor of a page without a login."""
    return Visitor()
