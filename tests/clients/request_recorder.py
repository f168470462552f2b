"""RequestRecorder: which routes each client used, how, and what the server answered."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class SeenRequest:
    """A POST request of a client."""

    path: str
    body: Any
    """The JSON of the request; None if it was none."""
    status: int = 0
    answer: bytes = b""
    """The body of an answer that is no success."""


class RequestRecorder:
    """Records the requests to the applications that it wraps.

    It tells clients apart by their API keys, which the servers do not check.
    """

    def __init__(self) -> None:
        self.seen: dict[str, list[SeenRequest]] = defaultdict(list)
        """By API key."""

    def wrap(self, app: Any) -> Any:
        """The ASGI application with a record of its requests."""

        async def recording(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http" and scope["method"] == "POST":
                await self._record(app, scope, receive, send)
            else:
                await app(scope, receive, send)

        return recording

    async def _record(self, app: Any, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        request = SeenRequest(scope["path"], _decode(body))
        self.seen[_key_of(scope)].append(request)
        unread = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Any:
            return unread.pop() if unread else await receive()

        async def record(message: Any) -> None:
            if message["type"] == "http.response.start":
                request.status = message["status"]
            elif request.status >= 400:
                request.answer += message.get("body", b"")
            await send(message)

        await app(scope, replay, record)


def _decode(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _key_of(scope: Any) -> str:
    headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
    return str(headers.get("authorization", "")).removeprefix("Bearer ")
