"""Limits how much of a request's body Ray Serve holds: a large upload is sent as fast as the replica stores it.

Ray Serve 2.60 reads bodies as fast as clients send them, in the proxy and again in the replica, into queues without a
limit. A file of 400 MiB took 580 MiB there and 890 MiB here.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Iterable
from typing import Any

MAX_HELD_BYTES = 4 * 2**20
"""Bytes of one body that may wait in each of the queues; what was received at once may come on top."""

POLL_S = 0.002

_MARK = "_tuneyard_limits_bodies"


def limit_held_bodies() -> None:
    """Makes Ray Serve's queues in this process wait for the reader of a body. Further calls do nothing.

    For proxies and replicas, before they answer requests. Uvicorn then stops to read from a connection whose body is
    not taken.
    """
    from ray.serve._private import direct_ingress_http_util, http_util

    if getattr(http_util, _MARK, False):
        return
    setattr(http_util, _MARK, True)
    _limit_queue(http_util.MessageQueue)
    # Both fetch a body ahead of the application; each calls what its constructor was given for the next messages.
    _limit_fetching(http_util.ASGIReceiveProxy, "_receive_asgi_messages")
    _limit_fetching(direct_ingress_http_util.ASGIDIReceiveProxy, "_receive")


def _limit_queue(queue: Any) -> None:
    """In the proxy: the queue of what a replica has not fetched."""
    put = queue.__call__

    @functools.wraps(put)
    async def put_and_wait(self: Any, message: Any) -> None:
        await put(self, message)
        if message["type"] == "http.request":
            while not self._closed and _held_bytes(self._message_queue) > MAX_HELD_BYTES:
                await asyncio.sleep(POLL_S)

    queue.__call__ = put_and_wait


def _limit_fetching(proxy: Any, name: str) -> None:
    """In the replica: the queue of what the application has not read."""
    init = proxy.__init__

    @functools.wraps(init)
    def init_with_limit(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        fetch = getattr(self, name)

        async def wait_and_fetch(*arguments: Any) -> Any:
            # asyncio.Queue keeps its items there.
            while self._queue is not None and _held_bytes(self._queue._queue) > MAX_HELD_BYTES:
                await asyncio.sleep(POLL_S)
            return await fetch(*arguments)

        setattr(self, name, wait_and_fetch)

    proxy.__init__ = init_with_limit


def _held_bytes(messages: Iterable[Any]) -> int:
    return sum(len(message.get("body", b"")) for message in _copy(messages) if isinstance(message, dict))


def _copy(messages: Iterable[Any]) -> list[Any]:
    """The messages as they are now. Another thread may take some meanwhile, which a deque reports as RuntimeError."""
    while True:
        with contextlib.suppress(RuntimeError):
            return list(messages)
