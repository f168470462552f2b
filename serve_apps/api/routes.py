"""The OpenAI API of one model as a FastAPI application, for Ray Serve or any ASGI server."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client.metrics_core import Metric

from serve_apps.api.chat import ChatService
from serve_apps.api.completions import CompletionService
from serve_apps.api.openapi_document import ERRORS, STREAMED, install_document, request_body
from serve_apps.api.operator_routes import add_operator_routes
from serve_apps.api.responses.routes import add_response_route, add_stored_response_routes
from serve_apps.api.responses.service import ResponsesService
from serve_apps.api.responses.stored_responses import StoredResponses
from serve_apps.api.tokenization import TokenizationService
from serve_apps.generation.served_model import ServedModel
from serve_apps.http_front.admission import admit_request, authorization_header
from serve_apps.http_front.base_api import create_base_api
from serve_apps.keys.key_gate import KeyGate
from serve_apps.keys.model_scope import hidden_model_error, is_restricted, may_use
from serve_apps.tracing.tracing import NO_TRACING, Tracing
from tuneyard.api.wire.chat_answer import ChatCompletion
from tuneyard.api.wire.chat_request import ChatCompletionRequest
from tuneyard.api.wire.completions import Completion, CompletionRequest
from tuneyard.api.wire.model_list import ModelCard, ModelList
from tuneyard.api.wire.tokenization import Detokenized, DetokenizeRequest, Tokenized, TokenizeRequest
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.configs.serve import HttpConfig
from tuneyard.storage.audit_log import AuditLog


@dataclasses.dataclass(frozen=True, slots=True)
class ApiOptions:
    """What an API needs beside its model."""

    admin_key: str | None = None
    """The administrators' key. None closes their routes."""
    audit_log: AuditLog | None = None
    """Where the use of the administrators' key is recorded. None: nowhere."""
    gate: KeyGate = dataclasses.field(default_factory=lambda: KeyGate(None))
    """Checks API keys and their limits; by default no key is needed."""
    http: HttpConfig = dataclasses.field(default_factory=lambda: HttpConfig(allowed_hosts=("*",)))
    """Hosts, origins and limits of requests; by default every host is allowed."""
    stored_responses: StoredResponses = dataclasses.field(default_factory=lambda: StoredResponses(None))
    """The deployment's stored responses; by default nothing is stored."""
    ignored_tools: tuple[str, ...] = ()
    """Types of built-in tools that are left out of requests of /v1/responses."""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    """Sent with every answer: model version, weights, run and dataset."""
    collect_metrics: Callable[[], Awaitable[Sequence[Metric]]] | None = None
    """Gives the metrics for GET /metrics; None: an empty page."""
    lifespan: Callable[[], AbstractAsyncContextManager[None]] = contextlib.nullcontext
    """Entered before the first request, left after the last one."""
    sets_request_ids: bool = True
    """False behind Ray Serve, whose proxy sets X-Request-Id."""
    tracing: Tracing = NO_TRACING
    """Where traces of requests go; by default nowhere."""


def create_api(model: ServedModel, options: ApiOptions | None = None) -> FastAPI:
    """The FastAPI application for one model."""
    options = options or ApiOptions()
    enter_lifespan = options.lifespan

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with enter_lifespan(), options.gate.running():
            yield

    api = create_base_api(
        options.headers,
        lifespan,
        http=options.http,
        sets_request_ids=options.sets_request_ids,
        tracing=options.tracing,
    )
    _add_model_list(api, model, options.gate)
    _add_completion_routes(api, model, options.gate, options.http.limits)
    responses = ResponsesService(model, ChatService(model), options.stored_responses)
    add_response_route(api, model, responses, options.ignored_tools, options.gate, options.http.limits)
    add_stored_response_routes(api, options.stored_responses, options.gate)
    _add_token_routes(api, model, options.gate, options.http.limits)
    add_operator_routes(api, model, options.admin_key, options.http.limits, options.collect_metrics, options.audit_log)
    install_document(api)
    return api


def _add_model_list(api: FastAPI, model: ServedModel, gate: KeyGate) -> None:
    @api.get("/v1/models", response_model=ModelList)
    async def list_models(request: Request) -> Response:
        key = gate.authenticate(authorization_header(request))
        cards = [model.card()] if may_use(key, model.model_id) else []
        return JSONResponse(ModelList(data=cards).model_dump())

    @api.get("/v1/models/{model_id:path}", response_model=ModelCard, responses=ERRORS)
    async def retrieve_model(request: Request, model_id: str) -> Response:
        key = gate.authenticate(authorization_header(request))
        if not may_use(key, model_id) or (is_restricted(key) and model_id != model.model_id):
            raise hidden_model_error(model_id)
        model.check_name(model_id)
        return JSONResponse(model.card().model_dump())


def _add_completion_routes(api: FastAPI, model: ServedModel, gate: KeyGate, limits: HttpLimits) -> None:
    chat, completions = ChatService(model), CompletionService(model)

    @api.post(
        "/v1/chat/completions",
        response_model=ChatCompletion,
        responses=STREAMED,
        openapi_extra=request_body(ChatCompletionRequest),
    )
    async def create_chat_completion(request: Request) -> Response:
        async with admit_request(gate, request, limits, model.check_name) as admission:
            parsed = ChatCompletionRequest.parse(await admission.read_json())
            await admission.reserve(parsed.model, parsed.token_limit, parsed.n)
            if parsed.stream:
                return admission.stream(await chat.open_stream(parsed))
            return admission.respond(await chat.complete(parsed))

    @api.post(
        "/v1/completions",
        response_model=Completion,
        responses=STREAMED,
        openapi_extra=request_body(CompletionRequest),
    )
    async def create_completion(request: Request) -> Response:
        async with admit_request(gate, request, limits, model.check_name) as admission:
            parsed = CompletionRequest.parse(await admission.read_json())
            await admission.reserve(parsed.model, parsed.token_limit, len(parsed.prompts) * parsed.n)
            if parsed.stream:
                return admission.stream(await completions.open_stream(parsed))
            return admission.respond(await completions.complete(parsed))


def _add_token_routes(api: FastAPI, model: ServedModel, gate: KeyGate, limits: HttpLimits) -> None:
    tokenization = TokenizationService(model)

    @api.post("/tokenize", response_model=Tokenized, responses=ERRORS, openapi_extra=request_body(TokenizeRequest))
    async def tokenize(request: Request) -> Response:
        async with admit_request(gate, request, limits, model.check_name) as admission:
            parsed = TokenizeRequest.parse(await admission.read_json())
            await admission.reserve(parsed.model)
            return admission.respond(await tokenization.tokenize(parsed))

    @api.post(
        "/detokenize", response_model=Detokenized, responses=ERRORS, openapi_extra=request_body(DetokenizeRequest)
    )
    async def detokenize(request: Request) -> Response:
        async with admit_request(gate, request, limits, model.check_name) as admission:
            parsed = DetokenizeRequest.parse(await admission.read_json())
            await admission.reserve(parsed.model)
            return admission.respond(await tokenization.detokenize(parsed))
