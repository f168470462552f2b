"""The OpenAI API as FastAPI routes over the services: the same under Ray Serve and under plain uvicorn."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client.metrics_core import Metric
from pydantic import BaseModel

from serve_apps.api.chat_service import ChatService
from serve_apps.api.completion_service import CompletionService
from serve_apps.api.openapi_document import ERRORS, STREAMED, Health, Version, body, install_document
from serve_apps.http_front.http_plumbing import Admitted, authorization, base_api, json_body
from serve_apps.http_front.key_gate import KeyGate
from serve_apps.metrics.exposition import metrics_page
from tuneyard import __version__
from tuneyard.api.requests import (
    ChatCompletionRequest,
    CompletionRequest,
    DetokenizeRequest,
    RenderRequest,
    TokenizeRequest,
)
from tuneyard.api.responses import (
    ChatCompletion,
    Completion,
    Detokenized,
    ModelCard,
    ModelList,
    RenderedPrompt,
    Tokenized,
)
from tuneyard.core.errors import AdminKeyError, EngineError, ModelNotFoundError


@dataclasses.dataclass(frozen=True, slots=True)
class ApiOptions:
    """What an API has beside its services. `admin_key`: without one, administrators' routes are closed. `gate`: who may
    ask what. `headers`: sent with every answer; where it leads back to. `metrics`: what GET /metrics gives.
    """

    admin_key: str | None = None
    gate: KeyGate = dataclasses.field(default_factory=lambda: KeyGate(None))
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    metrics: Callable[[], Awaitable[Sequence[Metric]]] | None = None
    lifespan: Callable[[], AbstractAsyncContextManager[None]] = contextlib.nullcontext
    """Entered before the first request, left after the last one."""
    gives_request_ids: bool = True
    """False behind Ray Serve, whose proxy does."""


def create_api(get_service: Callable[[], ChatService], options: ApiOptions | None = None) -> FastAPI:
    """The FastAPI application. `get_service` is called per request."""
    chosen = options or ApiOptions()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with chosen.lifespan():
            yield

    api = base_api(chosen.headers, lifespan, gives_request_ids=chosen.gives_request_ids)
    _add_model_routes(api, get_service, chosen.gate)
    _add_operator_routes(api, get_service, chosen)
    install_document(api)
    return api


def _add_model_routes(api: FastAPI, get_service: Callable[[], ChatService], gate: KeyGate) -> None:
    """What clients of the model use."""

    @api.get("/v1/models", response_model=ModelList)
    async def list_models(request: Request) -> Response:
        gate.check(authorization(request))
        return _json(get_service().models())

    @api.get("/v1/models/{model_id:path}", response_model=ModelCard, responses=ERRORS)
    async def retrieve_model(request: Request, model_id: str) -> Response:
        gate.check(authorization(request))
        for card in get_service().models().data:
            if card.id == model_id:
                return _json(card)
        raise ModelNotFoundError(f"The model {model_id!r} does not exist here.", param="model", code="model_not_found")

    @api.post(
        "/v1/chat/completions",
        response_model=ChatCompletion,
        responses=STREAMED,
        openapi_extra=body(ChatCompletionRequest),
    )
    async def create_chat_completion(request: Request) -> Response:
        gate.check(authorization(request))
        parsed = ChatCompletionRequest.parse(await json_body(request))
        with Admitted(gate, request, parsed.model) as admitted:
            if parsed.stream:
                return admitted.streamed(await get_service().open_stream(parsed))
            return admitted.whole(await get_service().complete(parsed))

    @api.post("/v1/completions", response_model=Completion, responses=STREAMED, openapi_extra=body(CompletionRequest))
    async def create_completion(request: Request) -> Response:
        gate.check(authorization(request))
        parsed = CompletionRequest.parse(await json_body(request))
        service = CompletionService(get_service())
        with Admitted(gate, request, parsed.model) as admitted:
            if parsed.stream:
                return admitted.streamed(await service.open_stream(parsed))
            return admitted.whole(await service.complete(parsed))

    @api.post("/tokenize", response_model=Tokenized, responses=ERRORS, openapi_extra=body(TokenizeRequest))
    async def tokenize(request: Request) -> Response:
        gate.check(authorization(request))
        parsed = TokenizeRequest.parse(await json_body(request))
        with Admitted(gate, request, parsed.model) as admitted:
            return admitted.whole(CompletionService(get_service()).tokenize(parsed))

    @api.post("/detokenize", response_model=Detokenized, responses=ERRORS, openapi_extra=body(DetokenizeRequest))
    async def detokenize(request: Request) -> Response:
        gate.check(authorization(request))
        parsed = DetokenizeRequest.parse(await json_body(request))
        with Admitted(gate, request, parsed.model) as admitted:
            return admitted.whole(CompletionService(get_service()).detokenize(parsed))


def _add_operator_routes(api: FastAPI, get_service: Callable[[], ChatService], options: ApiOptions) -> None:
    """Health, version, metrics, and what administrators use."""

    @api.post(
        "/v1/chat/completions/render",
        response_model=RenderedPrompt,
        responses=ERRORS,
        openapi_extra=body(RenderRequest),
    )
    async def render_prompt(request: Request) -> Response:
        _check_admin(request, options.admin_key)
        parsed = RenderRequest.parse(await json_body(request))
        return _json(get_service().render(parsed))

    async def health() -> Response:
        try:
            stats = await get_service().check_health()
        except EngineError as e:
            return JSONResponse({"status": "unhealthy", "reason": e.message}, status_code=503)
        return JSONResponse({"status": "ok", **dataclasses.asdict(stats)})

    unhealthy: dict[int | str, dict[str, Any]] = {503: {"model": Health, "description": "The engine is dead."}}
    api.get("/healthz", response_model=Health, responses=unhealthy)(health)
    # A replica takes requests only once its engine answers, so one that lives is ready.
    api.get("/readyz", response_model=Health, responses=unhealthy)(health)

    @api.get("/version", response_model=Version)
    async def version() -> Response:
        return JSONResponse({"version": __version__})

    @api.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        return metrics_page(await options.metrics() if options.metrics is not None else ())


def _check_admin(request: Request, admin_key: str | None) -> None:
    """Raises AdminKeyError unless the request carries the key."""
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if admin_key is None or not secrets.compare_digest(given.encode(), admin_key.encode()):
        raise AdminKeyError(
            f"{request.url.path} is for administrators: send the key as 'Authorization: Bearer …'. It is "
            "TUNEYARD_ADMIN_KEY of the deployment, or lies in $TUNEYARD_HOME/admin_key.",
            code="admin_key_required",
        )


def _json(content: BaseModel) -> Response:
    return JSONResponse(content.model_dump())
