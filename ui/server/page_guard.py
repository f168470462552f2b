"""PageGuard: keeps web pages of other sites from using the chat page, whose server holds an API key."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

UPLOAD_PATH = "/upload"
"""End of the path of Gradio's upload route. The page has no uploads, and the route would store any file."""


class PageGuard:
    """ASGI middleware that refuses other hosts' names, other sites' pages, and uploads, with status 403.

    A browser reaches loopback addresses from every page. Under a host name of its own (DNS rebinding) a page of another
    site could also read the answers. `hosts` are the names that this server has, without ports; if there are none,
    every name is allowed.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower().strip("[]") for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and (reason := self._find_refusal(scope)) is not None:
            await PlainTextResponse(reason, status_code=403)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _find_refusal(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        hosts, origin = headers.getlist("host"), headers.get("origin")
        if self._hosts and (len(hosts) != 1 or _host_name(hosts[0]) not in self._hosts):
            return f"This page is not served as {', '.join(hosts)!r}. Add the name with --allow-host."
        if origin is not None and [origin.lower().partition("://")[2]] != [host.lower() for host in hosts]:
            return "Pages of other sites may not use this page."
        if scope["path"].rstrip("/").endswith(UPLOAD_PATH):
            return "This page takes no uploads."
        return None


def _host_name(host: str) -> str:
    """The name in a Host header, in lower case, without the port and without the brackets of an IPv6 address."""
    name, colon, port = host.strip().lower().rpartition(":")
    if not colon or not port.isdigit():
        name = host.strip().lower()
    return name.strip("[]").rstrip(".")
