"""The FastAPI application that every API here starts from, without routes."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from serve_apps.http_front.errors import add_error_handlers
from serve_apps.http_front.middleware import HeadersMiddleware
from tuneyard import __version__


def create_base_api(headers: dict[str, str], lifespan: Any = None, *, sets_request_ids: bool = True) -> FastAPI:
    """An application with OpenAI's error format and with `headers` on every answer.

    Set `sets_request_ids` to False behind Ray Serve, whose proxy sets X-Request-Id itself.
    """
    # The pages /docs and /redoc are off: they would load scripts from a public CDN.
    api = FastAPI(title="Tuneyard", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    add_error_handlers(api)
    api.add_middleware(HeadersMiddleware, headers=headers, sets_request_ids=sets_request_ids)
    return api
