"""HeadersMiddleware: the headers that every answer carries."""

from __future__ import annotations

import re
import uuid
from typing import Any

from serve_apps.tracing.request_id import working_for

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
"""Request ids that are taken over from clients: printable ASCII without spaces."""


class HeadersMiddleware:
    """ASGI middleware that adds `headers` to every answer, and X-Request-Id if `sets_request_ids`.

    The id is also that of current_request_id. It is the request's own X-Request-Id, or a new one if the request has
    none or an unusable one.
    """

    def __init__(self, app: Any, headers: dict[str, str], sets_request_ids: bool) -> None:
        self._app = app
        self._sets_request_ids = sets_request_ids
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given_id = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = given_id if _REQUEST_ID.fullmatch(given_id) else uuid.uuid4().hex

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                id_header = [(b"x-request-id", request_id.encode())] if self._sets_request_ids else []
                message = {**message, "headers": [*message.get("headers", []), *id_header, *self._headers]}
            await send(message)

        with working_for(request_id):
            await self._app(scope, receive, send_with_headers)
