"""The routes for operators: health, version, metrics, and for administrators the rendered prompt."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client.metrics_core import Metric

from serve_apps.api.chat import ChatService
from serve_apps.api.openapi_document import ERRORS, Health, Version, request_body
from serve_apps.generation.served_model import ServedModel
from serve_apps.http_front.admission import authorization_header
from serve_apps.http_front.bodies import read_json
from serve_apps.metrics.exposition import metrics_page
from tuneyard import __version__
from tuneyard.api.wire.chat_answer import RenderedPrompt
from tuneyard.api.wire.chat_request import RenderRequest
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.core.errors import AdminKeyError, ConfigError, EngineError
from tuneyard.storage.audit_log import ADMIN_KEY_ACTOR, AuditLog

logger = logging.getLogger(__name__)


def add_operator_routes(
    api: FastAPI,
    model: ServedModel,
    admin_key: str | None,
    limits: HttpLimits,
    collect_metrics: Callable[[], Awaitable[Sequence[Metric]]] | None,
    audit_log: AuditLog | None,
) -> None:
    """Adds the routes. Without an `admin_key` the administrators' route refuses every request.

    Its use is recorded in `audit_log`.
    """
    chat = ChatService(model)

    @api.post(
        "/v1/chat/completions/render",
        response_model=RenderedPrompt,
        responses=ERRORS,
        openapi_extra=request_body(RenderRequest),
    )
    async def render_prompt(request: Request) -> Response:
        _check_admin_key(request, admin_key)
        parsed = RenderRequest.parse(await read_json(request, limits))
        rendered = await chat.render(parsed)
        if audit_log is not None:
            await asyncio.to_thread(_record_render, audit_log, model.model_id)
        return JSONResponse(rendered.model_dump())

    async def health() -> Response:
        try:
            stats = await model.check_health()
        except EngineError as e:
            return JSONResponse({"status": "unhealthy", "reason": e.message}, status_code=503)
        return JSONResponse({"status": "ok", **dataclasses.asdict(stats)})

    unhealthy: dict[int | str, dict[str, Any]] = {503: {"model": Health, "description": "The engine is dead."}}
    api.get("/healthz", response_model=Health, responses=unhealthy)(health)
    # A replica takes requests only once its engine answers: healthy and ready are the same.
    api.get("/readyz", response_model=Health, responses=unhealthy)(health)

    @api.get("/version", response_model=Version)
    async def version() -> Response:
        return JSONResponse({"version": __version__})

    @api.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        return metrics_page(await collect_metrics() if collect_metrics is not None else ())


def _record_render(audit_log: AuditLog, model: str) -> None:
    """Records that a prompt was rendered. It is answered all the same where the log cannot be written: it changes
    nothing, and a replica's node may not see the log's folder."""
    try:
        audit_log.append("prompt.render", model, actor=ADMIN_KEY_ACTOR)
    except ConfigError as e:
        logger.warning("%s", e)


def _check_admin_key(request: Request, admin_key: str | None) -> None:
    """Raises AdminKeyError unless the request carries the administrators' key."""
    secret = authorization_header(request).removeprefix("Bearer ")
    if admin_key is None or not secrets.compare_digest(secret.encode(), admin_key.encode()):
        raise AdminKeyError(
            f"{request.url.path} is for administrators only. Send their key as 'Authorization: Bearer …'. It is the "
            "deployment's TUNEYARD_ADMIN_KEY, or else the content of $TUNEYARD_HOME/admin_key.",
            code="admin_key_required",
        )
