"""The routes for operators: health, version, metrics, and for administrators the rendered prompt."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client.metrics_core import Metric

from serve_apps.api.chat import ChatService
from serve_apps.api.openapi_document import ERRORS, Health, Version, request_body
from serve_apps.generation.served_model import ServedModel
from serve_apps.http_front.admin_key import AdminRecorder, check_admin_key
from serve_apps.http_front.bodies import read_json
from serve_apps.metrics.exposition import metrics_page
from tuneyard import __version__
from tuneyard.api.wire.chat_answer import RenderedPrompt
from tuneyard.api.wire.chat_request import RenderRequest
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.core.errors import EngineError
from tuneyard.storage.audit_log import AuditLog


def add_operator_routes(
    api: FastAPI,
    model: ServedModel,
    admin_key: str | None,
    limits: HttpLimits,
    collect_metrics: Callable[[], Awaitable[Sequence[Metric]]] | None,
    audit_log: AuditLog | None,
) -> None:
    """Adds the routes. Without an `admin_key` the administrators' route refuses every request.

    Its use is recorded in `audit_log`, see AdminRecorder.
    """
    chat = ChatService(model)
    recorder = AdminRecorder(audit_log)

    @api.post(
        "/v1/chat/completions/render",
        response_model=RenderedPrompt,
        responses=ERRORS,
        openapi_extra=request_body(RenderRequest),
    )
    async def render_prompt(request: Request) -> Response:
        check_admin_key(request, admin_key)
        parsed = RenderRequest.parse(await read_json(request, limits))
        rendered = await chat.render(parsed)
        await recorder.record("prompt.render", model.model_id)
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
