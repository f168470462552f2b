"""Serves the chat page, with a content policy that keeps the browser on this server."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from tuneyard.api.header_limits import with_header_limits
from tuneyard.configs.limits.header_limits import HeaderLimits
from ui.chat_page import ChatPage
from ui.page_guard import PageGuard
from ui.page_theme import CSS, build_theme

CONTENT_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "base-uri 'self'; form-action 'self'; object-src 'none'"
)
"""Content-Security-Policy: the browser may contact this server only, so an image link in an answer leaks nothing."""

SHUTDOWN_TIMEOUT_S = 1


class ContentPolicy:
    """ASGI middleware that adds the policy to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = CONTENT_POLICY
                headers["Referrer-Policy"] = "no-referrer"
            await send(message)

        await self._app(scope, receive, send_with_policy)


def build_page_app(page: ChatPage, hosts: Sequence[str] = ()) -> FastAPI:
    """The ASGI app of the page, without API docs, run history and monitoring. `hosts` are those of PageGuard."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(PageGuard, hosts=hosts)
    app.add_middleware(ContentPolicy)
    mounted: FastAPI = gr.mount_gradio_app(
        app, page.blocks, path="/", theme=build_theme(), css=CSS, footer_links=[], run_history=False,
        enable_monitoring=False, ssr_mode=False, mcp_server=False, pwa=False,
    )  # fmt: skip
    return mounted


def serve_page(page: ChatPage, listener: socket.socket, hosts: Sequence[str] = ()) -> None:
    """Serves on an open socket until Ctrl-C; raises KeyboardInterrupt then. `hosts` are those of PageGuard."""
    app = build_page_app(page, hosts)
    config = uvicorn.Config(
        app,
        log_level="warning",
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
        http=with_header_limits(AutoHTTPProtocol, HeaderLimits()),
    )
    PageServer(config).run(sockets=[listener])


class PageServer(uvicorn.Server):
    """uvicorn without error logs at shutdown, when it cuts the streams of open pages, which never end by themselves."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)
