"""TraceSpan: a step of a request; and the span of the current task."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias

Attribute: TypeAlias = Literal[
    "error.type",
    "gen_ai.request.model",
    "gen_ai.response.finish_reasons",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "http.request.method",
    "http.response.status_code",
    "http.route",
    "tuneyard.key.name",
    "tuneyard.request_id",
]
"""Names of what a span may say. Those without `tuneyard` are OpenTelemetry's semantic conventions."""

Event: TypeAlias = Literal["accepted", "first token", "last token"]


class TraceSpan(Protocol):
    """A step of a request, from its start to `end`.

    As a context manager it ends with the context; an exception then marks it as failed, by the exception's class alone.
    All methods may be called after the end and have no effect then. Spans of one request are used from one event loop.
    """

    def start(self, name: str) -> TraceSpan:
        """A step inside this one, which begins now."""
        ...

    def set(self, name: Attribute, value: str | int) -> None:
        """Sets an attribute; "" sets none. Never give it text of a request, an answer or an error."""
        ...

    def rename(self, name: str) -> None:
        """Changes the span's name."""
        ...

    def add_event(self, name: Event) -> None:
        """Something that happens now."""
        ...

    def add_tokens(self, prompt: int, completion: int) -> None:
        """Adds to the span's token counts."""
        ...

    def fail(self, error_type: str) -> None:
        """Marks the span as failed. The first call counts."""
        ...

    def headers(self) -> Mapping[str, str]:
        """W3C's headers, with which another process continues the trace below this span."""
        ...

    def end(self) -> None:
        """Ends the span; further calls do nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _NoSpan:
    """The span of a request that is not traced."""

    def start(self, name: str) -> TraceSpan:  # noqa: ARG002  # nothing is recorded
        return self

    def set(self, name: Attribute, value: str | int) -> None:
        pass

    def rename(self, name: str) -> None:
        pass

    def add_event(self, name: Event) -> None:
        pass

    def add_tokens(self, prompt: int, completion: int) -> None:
        pass

    def fail(self, error_type: str) -> None:
        pass

    def headers(self) -> Mapping[str, str]:
        return {}

    def end(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


NO_SPAN: TraceSpan = _NoSpan()

_CURRENT: ContextVar[TraceSpan] = ContextVar("span", default=NO_SPAN)


def current_span() -> TraceSpan:
    """The span of the request that the current task works for; NO_SPAN if it is not traced."""
    return _CURRENT.get()


@contextlib.contextmanager
def inside_span(span: TraceSpan) -> Iterator[None]:
    """Makes the span the current one, for tasks that start inside the context too. Does not end it."""
    token = _CURRENT.set(span)
    try:
        yield
    finally:
        _CURRENT.reset(token)
