"""Serves the page: the ASGI app, with a content policy that keeps the browser on this server."""

from __future__ import annotations

import logging
import socket
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from tuneyard.api.header_limits import with_header_limits
from tuneyard.configs.limits.header_limits import HeaderLimits
from ui.chat.chat_page import ChatPage
from ui.compare.compare_page import ComparePage
from ui.compare.votes.endpoint_votes import EndpointVotes
from ui.compare.votes.vote_file import VoteFile
from ui.endpoints.chat_client import ChatClient
from ui.endpoints.run_client import RunClient
from ui.endpoints.visitor import Visitor
from ui.page_context import PageContext
from ui.runs.runs_page import RunsPage
from ui.server.assets import FOREVER, PageAssets
from ui.server.document import OwnDocument
from ui.server.page_guard import PageGuard
from ui.server.sessions import COOKIE, Sessions
from ui.server.sign_in import SignInGate, add_sign_in
from ui.theme.page_theme import build_theme

CONTENT_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "base-uri 'self'; form-action 'self'; object-src 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy: the browser may contact this server only, so an image link in an answer leaks nothing."""

SHUTDOWN_TIMEOUT_S = 1


@dataclass(frozen=True)
class PageOptions:
    """What a page is started with."""

    title: str = "Tuneyard chat"
    system_prompt: str = ""
    temperature: float = 1.0
    examples: Sequence[str] = ()
    hosts: Sequence[str] = ()
    """Names of PageGuard."""
    has_sign_in: bool = False
    """True: each person signs in with an API key. False: everybody uses the client's shared key."""
    vote_file: Path | None = None
    """File for the votes of the Compare page. None: they go to an endpoint that keeps votes."""
    admin_key: str | None = None
    """The administrators' key, with which everybody at the page sees all runs. None: each sees what their key may."""


class ContentPolicy:
    """ASGI middleware that adds the policy to every response, and lets browsers keep files that never change."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = CONTENT_POLICY
                headers["Referrer-Policy"] = "same-origin"
                headers["X-Content-Type-Options"] = "nosniff"
                if scope["path"].startswith("/assets/") and message["status"] == 200:
                    headers["Cache-Control"] = FOREVER
            await send(message)

        await self._app(scope, receive, send_with_policy)


def build_page_app(client: ChatClient, options: PageOptions) -> FastAPI:
    """The ASGI app of the page, without API docs, run history and monitoring."""
    assets, sessions = PageAssets(), Sessions()

    # Who is not signed in has a key that no endpoint takes, never the shared one.
    stranger = Visitor(key="signed-out") if options.has_sign_in else Visitor()

    def visitor_of(request: Any) -> Visitor:
        return sessions.find(request.cookies.get(COOKIE)) or stranger

    def head_of(connection: HTTPConnection) -> str:
        return f'<meta name="tuneyard-owner" content="{visitor_of(connection).owner}">{assets.head}'

    blocks = _build_blocks(client, options, visitor_of)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    assets.add_routes(app)
    app.add_middleware(OwnDocument, title=options.title, head_of=head_of)
    if options.has_sign_in:
        add_sign_in(app, sessions, client, options.title, assets.head)
        app.add_middleware(SignInGate, sessions=sessions)
    app.add_middleware(PageGuard, hosts=options.hosts)
    app.add_middleware(ContentPolicy)
    with warnings.catch_warnings():
        # It is off, and Gradio says so for every app of several pages.
        warnings.filterwarnings("ignore", "SSR mode is not supported", UserWarning)
        mounted: FastAPI = gr.mount_gradio_app(
            app, blocks, path="/", theme=build_theme(), footer_links=[], run_history=False,
            enable_monitoring=False, ssr_mode=False, mcp_server=False, pwa=False, show_error=False,
        )  # fmt: skip
    return mounted


def _build_blocks(client: ChatClient, options: PageOptions, visitor_of: Callable[[Any], Visitor]) -> gr.Blocks:
    context = PageContext(
        client=client,
        title=options.title,
        visitor_of=visitor_of,
        system_prompt=options.system_prompt,
        temperature=options.temperature,
        examples=options.examples,
    )
    with gr.Blocks(title=options.title, analytics_enabled=False, fill_height=True, fill_width=True) as blocks:
        gr.Navbar(visible=False)
        ChatPage(context).build(blocks)
    votes = EndpointVotes(client) if options.vote_file is None else VoteFile(options.vote_file)
    with blocks.route("Compare", "compare"):
        ComparePage(context, votes).build(blocks)
    with blocks.route("Runs", "runs"):
        RunsPage(context, RunClient(client, options.admin_key)).build(blocks)
    # Gradio's default is one answer at a time for all visitors together.
    blocks.queue(default_concurrency_limit=None, api_open=False)
    return blocks


def serve_page(client: ChatClient, options: PageOptions, listener: socket.socket) -> None:
    """Serves on an open socket until Ctrl-C; raises KeyboardInterrupt then."""
    client.load()
    with gr.utils.MatplotlibBackendMananger():
        pass  # imports matplotlib, if it is installed, which the first visitor's event would do on the event loop
    config = uvicorn.Config(
        build_page_app(client, options),
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
