"""Limits for the headers of HTTP requests, in uvicorn: a client that sends them slowly or without end is disconnected.

uvicorn itself waits without limit for a connection's first request, and for headers that arrive a byte at a time or
never end: a few thousand such connections would use up the files that a process may open, or its memory.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from tuneyard.api.held_bodies import limit_held_bodies
from tuneyard.configs.limits.header_limits import HeaderLimits

VARIABLE = "TUNEYARD_HEADER_LIMITS"
"""Environment variable with HeaderLimits as JSON, for install_in_uvicorn. Unset: the defaults."""

MAX_UNREAD_BODY_BYTES = 16 * 2**20
"""Bytes of a body that may still arrive after its request was answered, as one that was refused; more end the
connection."""


def proxy_environment(limits: HeaderLimits) -> dict[str, str]:
    """Environment variables with which the proxies and replicas of Ray Serve on a node keep the limits.

    Set them before Ray starts on the node. Tuneyard must be importable there, or else no proxy starts.
    """
    timeout = f"timeout http-request {round(1000 * limits.timeout_s)}ms"
    return {
        VARIABLE: limits.model_dump_json(),
        # Called by Ray Serve in each of its processes before a uvicorn server starts there.
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": f"{__name__}:{install_in_uvicorn.__name__}",
        # Ray Serve has no setting for HAProxy's `timeout http-request`. It writes this setting unchanged into the
        # section of HAProxy's configuration where the timeout belongs, so that a second line can follow.
        "RAY_SERVE_HAPROXY_BALANCE_ALGORITHM": f"leastconn\n    {timeout}",
    }


def with_header_limits(protocol: type[asyncio.Protocol], limits: HeaderLimits) -> type[asyncio.Protocol]:
    """A subclass of one of uvicorn's HTTP protocols that keeps the limits, for `uvicorn.Config(http=…)`.

    The time counts from the first byte of a request's headers; for a connection's first request from the connection on.
    At a limit the connection is closed, with status 408 or 431 if a part of the headers had arrived. Bodies, and the
    time between two requests of a connection, have limits elsewhere: `http.limits.body_timeout_s`, and uvicorn's
    timeout_keep_alive.
    """
    base: Any = protocol
    waiting: dict[Any, None] = {}  # ordered by age

    class LimitedProtocol(base):
        _deadline: asyncio.TimerHandle | None = None
        _received = 0
        """Bytes since the deadline was started."""
        _is_unread_body = False
        """Whether these may be the rest of a body whose request is answered."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self._start_deadline()

        def connection_lost(self, exc: Exception | None) -> None:
            self._end_deadline()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            cycle = self.cycle
            has_body_left = cycle is not None and cycle.more_body
            is_answered = cycle is not None and cycle.response_complete
            super().data_received(data)
            if self.cycle is not cycle:
                self._end_deadline()
            elif (is_answered or not has_body_left) and not self.transport.is_closing():
                self._is_unread_body = has_body_left
                self._received += len(data)
                self._start_deadline()
                if self._received > (MAX_UNREAD_BODY_BYTES if has_body_left else limits.max_bytes):
                    self._close(b"431 Request Header Fields Too Large")

        def handle_websocket_upgrade(self, *arguments: Any) -> None:
            self._end_deadline()
            super().handle_websocket_upgrade(*arguments)

        def _start_deadline(self) -> None:
            if self._deadline is not None:
                return
            self._deadline = self.loop.call_later(limits.timeout_s, self._on_deadline)
            waiting[self] = None
            if len(waiting) > limits.max_connections:
                next(iter(waiting))._on_deadline()

        def _end_deadline(self) -> None:
            waiting.pop(self, None)
            self._received = 0
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _on_deadline(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                # Bytes after a request whose answer is still running, as old clients send, must not cut the answer.
                self._end_deadline()
                return
            self._close(b"408 Request Timeout")

        def _close(self, status: bytes) -> None:
            if self._received and not self._is_unread_body:
                self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            self._end_deadline()
            self.transport.close()

    return LimitedProtocol


def install_in_uvicorn() -> list[Any]:
    """Makes all uvicorn servers that this process starts from now on keep the limits of VARIABLE, and Ray Serve hold
    only little of the bodies that arrive there.

    Returns no middleware, which is what Ray Serve expects of such a callback.
    """
    from uvicorn.protocols.http import auto

    if auto.AutoHTTPProtocol.__name__ != "LimitedProtocol":
        limits = HeaderLimits.model_validate_json(os.environ.get(VARIABLE) or "{}")
        auto.AutoHTTPProtocol = with_header_limits(auto.AutoHTTPProtocol, limits)
    limit_held_bodies()
    return []
