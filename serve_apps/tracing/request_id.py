"""The id of the request that the current task works for, which answers, logs and traces have in common."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from contextvars import ContextVar

_REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")


def current_request_id() -> str:
    """The id; "" outside of a request."""
    return _REQUEST_ID.get()


def new_engine_request_id() -> str:
    """A unique id for one request to the engine, which begins with the id of the current request."""
    unique = uuid.uuid4().hex
    return f"{request_id}-{unique[:12]}" if (request_id := current_request_id()) else unique


@contextlib.contextmanager
def working_for(request_id: str) -> Iterator[None]:
    """Sets the id for the context, and for tasks that start inside it."""
    token = _REQUEST_ID.set(request_id)
    try:
        yield
    finally:
        _REQUEST_ID.reset(token)
