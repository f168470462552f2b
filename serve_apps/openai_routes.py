"""The OpenAI API as FastAPI routes over the services: the same under Ray Serve and under plain uvicorn."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import re
import secrets
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from serve_apps.chat_service import ChatService
from serve_apps.completion_service import CompletionService
from serve_apps.key_gate import Grant, KeyGate
from serve_apps.measured_engine import CHARGE
from serve_apps.openapi_document import ERRORS, STREAMED, Health, Version, body, install_document
from tuneyard import __version__
from tuneyard.errors import (
    AdminKeyError,
    BodyTooLargeError,
    EngineError,
    ModelNotFoundError,
    RateLimitError,
    RequestError,
)
from tuneyard.openai_answers import (
    ChatCompletion,
    Completion,
    Detokenized,
    ModelCard,
    ModelList,
    RenderedPrompt,
    Tokenized,
)
from tuneyard.openai_api import (
    ChatCompletionRequest,
    CompletionRequest,
    DetokenizeRequest,
    RenderRequest,
    TokenizeRequest,
    error_body,
)

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 16 * 2**20
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@dataclasses.dataclass(frozen=True, slots=True)
class ApiOptions:
    """What an API has beside its services. `admin_key`: without one, administrators' routes are closed. `gate`: who may
    ask what. `headers`: sent with every answer; where it leads back to. `metrics`: what GET /metrics gives.
    """

    admin_key: str | None = None
    gate: KeyGate = dataclasses.field(default_factory=lambda: KeyGate(None))
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    metrics: Callable[[], bytes] | None = None
    on_shutdown: Callable[[], Awaitable[None]] | None = None


def create_api(get_service: Callable[[], ChatService], options: ApiOptions | None = None) -> FastAPI:
    """The FastAPI application. `get_service` is called per request, `on_shutdown` once at the end."""
    chosen = options or ApiOptions()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if chosen.on_shutdown is not None:
            await chosen.on_shutdown()

    # Nothing of the schema pages is served: they would load scripts from a public CDN.
    api = FastAPI(title="Tuneyard", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    api.add_exception_handler(RequestError, _on_request_error)
    api.add_exception_handler(HTTPException, _on_http_error)
    api.add_exception_handler(Exception, _on_unexpected_error)
    api.add_middleware(_Headers, headers=chosen.headers)
    _add_model_routes(api, get_service, chosen.gate)
    _add_operator_routes(api, get_service, chosen)
    install_document(api)
    return api


def _add_model_routes(api: FastAPI, get_service: Callable[[], ChatService], gate: KeyGate) -> None:
    """What clients of the model use."""

    @api.get("/v1/models", response_model=ModelList)
    async def list_models(request: Request) -> Response:
        gate.check(_authorization(request))
        return _json(get_service().models())

    @api.get("/v1/models/{model_id:path}", response_model=ModelCard, responses=ERRORS)
    async def retrieve_model(request: Request, model_id: str) -> Response:
        gate.check(_authorization(request))
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
        parsed = ChatCompletionRequest.parse(await _json_body(request))
        with _Admitted(gate, request, parsed.model) as admitted:
            if parsed.stream:
                return admitted.streamed(await get_service().open_stream(parsed))
            return admitted.whole(await get_service().complete(parsed))

    @api.post("/v1/completions", response_model=Completion, responses=STREAMED, openapi_extra=body(CompletionRequest))
    async def create_completion(request: Request) -> Response:
        parsed = CompletionRequest.parse(await _json_body(request))
        service = CompletionService(get_service())
        with _Admitted(gate, request, parsed.model) as admitted:
            if parsed.stream:
                return admitted.streamed(await service.open_stream(parsed))
            return admitted.whole(await service.complete(parsed))

    @api.post("/tokenize", response_model=Tokenized, responses=ERRORS, openapi_extra=body(TokenizeRequest))
    async def tokenize(request: Request) -> Response:
        parsed = TokenizeRequest.parse(await _json_body(request))
        with _Admitted(gate, request, parsed.model) as admitted:
            return admitted.whole(CompletionService(get_service()).tokenize(parsed))

    @api.post("/detokenize", response_model=Detokenized, responses=ERRORS, openapi_extra=body(DetokenizeRequest))
    async def detokenize(request: Request) -> Response:
        parsed = DetokenizeRequest.parse(await _json_body(request))
        with _Admitted(gate, request, parsed.model) as admitted:
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
        parsed = RenderRequest.parse(await _json_body(request))
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
        found = options.metrics() if options.metrics is not None else b""
        return Response(found, media_type="text/plain; version=0.0.4; charset=utf-8")


class _Headers:
    """ASGI middleware: every answer has the request's X-Request-Id, or a new one, and the API's own headers."""

    def __init__(self, app: Any, headers: dict[str, str]) -> None:
        self._app = app
        self._own = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = [(b"x-request-id", request_id.encode()), *self._own]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        await self._app(scope, receive, with_headers)


class _Admitted:
    """Context manager around the answer to a request that was let in: charges its tokens, gives its place back."""

    def __init__(self, gate: KeyGate, request: Request, model: str) -> None:
        self._grant = gate.admit(_authorization(request), model)
        self._is_streaming = False

    def __enter__(self) -> Self:
        self._token = CHARGE.set(self._grant.charge)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        CHARGE.reset(self._token)
        if not self._is_streaming:
            self._grant.close()

    def whole(self, content: BaseModel) -> Response:
        return JSONResponse(content.model_dump(), headers=self._grant.headers())

    def streamed(self, chunks: AsyncIterator[Any]) -> Response:
        """The place is given back when the stream ends, however it ends."""
        self._is_streaming = True
        return StreamingResponse(
            _closing(_server_sent_events(chunks), self._grant),
            media_type="text/event-stream",
            headers=_STREAM_HEADERS | self._grant.headers(),
        )


async def _closing(events: AsyncIterator[str], grant: Grant) -> AsyncIterator[str]:
    try:
        async for event in events:
            yield event
    finally:
        grant.close()
        await events.aclose()  # type: ignore[attr-defined]


def _authorization(request: Request) -> str:
    return request.headers.get("Authorization", "")


async def _server_sent_events(chunks: AsyncIterator[BaseModel]) -> AsyncIterator[str]:
    """Chunks as SSE, closed by [DONE]. An error in mid-stream becomes an error event and no [DONE]:
    a cut answer must never look like a whole one.
    """
    try:
        async for chunk in chunks:
            yield f"data: {chunk.model_dump_json(exclude_none=True)}\n\n"
    except RequestError as e:
        logger.warning("stream ended by %s: %s", type(e).__name__, e.message)
        yield f"data: {json.dumps(error_body(e))}\n\n"
        return
    finally:
        await chunks.aclose()  # type: ignore[attr-defined]
    yield "data: [DONE]\n\n"


def _check_admin(request: Request, admin_key: str | None) -> None:
    """Raises AdminKeyError unless the request carries the key."""
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if admin_key is None or not secrets.compare_digest(given.encode(), admin_key.encode()):
        raise AdminKeyError(
            f"{request.url.path} is for administrators: send the key as 'Authorization: Bearer …'. It is "
            "TUNEYARD_ADMIN_KEY of the deployment, or lies in $TUNEYARD_HOME/admin_key.",
            code="admin_key_required",
        )


async def _json_body(request: Request) -> Any:
    """The body as JSON. Raises RequestError when it is none, or larger than MAX_BODY_BYTES: before it is read in."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MAX_BODY_BYTES:
            raise BodyTooLargeError(f"The request body is larger than {MAX_BODY_BYTES // 2**20} MiB.")
    try:
        return json.loads(bytes(data))
    except (ValueError, RecursionError) as e:
        raise RequestError(f"The request body is not valid JSON: {e}.", code="invalid_json") from e


def _json(content: BaseModel) -> Response:
    return JSONResponse(content.model_dump())


async def _on_request_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, RateLimitError) else {}
    return JSONResponse(error_body(error), status_code=error.status_code, headers=headers)


async def _on_http_error(request: Request, error: Exception) -> Response:
    """Unknown paths and methods, in OpenAI's error shape."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}."
    return JSONResponse(error_body(RequestError(message)), status_code=error.status_code)


async def _on_unexpected_error(_: Request, error: Exception) -> Response:
    logger.error("unexpected error", exc_info=error)
    return JSONResponse(error_body(EngineError("Internal error; the server's log has the cause.")), status_code=500)
