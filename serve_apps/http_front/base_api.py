"""The FastAPI application that every API here starts from, without routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from serve_apps.http_front.browser_guard import BrowserGuard
from serve_apps.http_front.errors import add_error_handlers
from serve_apps.http_front.loop_turns import LoopTurns
from serve_apps.http_front.middleware import HeadersMiddleware
from serve_apps.http_front.request_tracing import TracingMiddleware
from serve_apps.tracing.tracing import NO_TRACING, Tracing
from tuneyard import __version__
from tuneyard.configs.serve import HttpConfig


def create_base_api(
    headers: dict[str, str],
    lifespan: Any = None,
    *,
    http: HttpConfig,
    sets_request_ids: bool = True,
    tracing: Tracing = NO_TRACING,
    multipart_paths: Sequence[str] = (),
) -> FastAPI:
    """An application with OpenAI's error format and with `headers` on every answer.

    It refuses hosts and origins that `http` does not allow, and bodies that are not declared as JSON, except for
    `multipart_paths` (see BrowserGuard); browsers are told that the origins of `http` are allowed. Set
    `sets_request_ids` to False behind Ray Serve, whose proxy sets X-Request-Id itself.
    """
    # The pages /docs and /redoc are off: they would load scripts from a public CDN.
    api = FastAPI(title="Tuneyard", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    add_error_handlers(api)
    api.state.heartbeat_s = http.heartbeat_s
    api.state.large_bodies = LoopTurns()
    if http.cors_origins:
        api.add_middleware(
            CORSMiddleware,
            allow_origins=list(http.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    # Around CORSMiddleware: a page of another site gets an error in OpenAI's form, to its preflight requests too.
    api.add_middleware(
        BrowserGuard, hosts=http.served_hosts, origins=http.cors_origins, multipart_paths=multipart_paths
    )
    if tracing is not NO_TRACING:
        api.add_middleware(TracingMiddleware, tracing=tracing)
    api.add_middleware(HeadersMiddleware, headers=headers, sets_request_ids=sets_request_ids)
    return api
