"""Gradio's HTML document as ours: name, icon, style sheet and program; nothing advertises, and nothing is loaded."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_FOREIGN = re.compile(
    r'\s*<meta\s+(?:property="og:|name="twitter:)[^>]*>'
    r'|\s*<link\s+rel="manifest"[^>]*>'
    r"|\s*<script>\s*\(\(\) => \{(?:(?!</script>).)*iframeResizer(?:(?!</script>).)*</script>",
    re.DOTALL,
)
"""Gradio's name and picture, its manifest, and its program for pages inside of other pages."""

SPLASH = '<div id="ty-splash" role="status"><span class="ty-hidden">Loading</span></div>'


class OwnDocument:
    """ASGI middleware that rewrites HTML pages. `head_of` gives the HTML for the head of a request's page."""

    def __init__(self, app: ASGIApp, title: str, head_of: Callable[[HTTPConnection], str]) -> None:
        self._app = app
        self._title = title
        self._head_of = head_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        body = b""

        async def rewrite(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start" and _is_html(message):
                start = message
            elif start is None:
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body"):
                    content = self._rewritten(body.decode(), HTTPConnection(scope)).encode()
                    MutableHeaders(scope=start)["content-length"] = str(len(content))
                    await send(start)
                    await send({"type": "http.response.body", "body": content})

        await self._app(scope, receive, rewrite)

    def _rewritten(self, document: str, connection: HTTPConnection) -> str:
        if "<gradio-app" not in document:
            return document
        title = escape(self._title)
        head = (
            f'<title>{title}</title><meta property="og:title" content="{title}">'
            '<meta name="description" content="Chat with the models that this server offers.">'
            f"{self._head_of(connection)}"
        )
        document = _FOREIGN.sub("", document)
        document = document.replace("<head>", f"<head>{head}", 1)  # before Gradio's program
        return document.replace("<gradio-app", f"{SPLASH}<gradio-app", 1)


def _is_html(message: Message) -> bool:
    return MutableHeaders(scope=message).get("content-type", "").startswith("text/html")
