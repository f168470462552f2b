"""Many models behind one /v1: a request goes to the application that serves its model, whatever name it uses for it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from ray import serve
from ray.serve import Application
from ray.serve.exceptions import BackPressureError

from serve_apps.api.model_calls import PATHS, Answered
from serve_apps.gateway.gateway_metrics import GatewayMetrics, GatewayRequest
from serve_apps.gateway.model_directory import ModelDirectory, RunningModel
from serve_apps.http_front.http_plumbing import DONE, EventStream, authorization, base_api, error_event, json_body
from serve_apps.http_front.key_gate import Grant, KeyGate
from serve_apps.metrics.exposition import metrics_page
from serve_apps.metrics.replica_metrics import SharedMetrics
from serve_apps.model_app import BACKPRESSURE, Access
from tuneyard import __version__
from tuneyard.api.api_keys import KeyStore
from tuneyard.api.responses import ModelCard, ModelList
from tuneyard.configs.serve import GatewayConfig
from tuneyard.core.errors import EngineError, OverloadedError, RequestError

logger = logging.getLogger(__name__)


class Gateway:
    """The deployment. Plain until build_gateway binds it."""

    def __init__(self, access: Access) -> None:
        self._gate = KeyGate(KeyStore(access.key_file) if access.key_file is not None else None)
        self._directory = ModelDirectory()
        context = serve.get_replica_context()
        replica = context.replica_id.unique_id
        self._counted = GatewayMetrics(replica)
        self._metrics = SharedMetrics(context.app_name, replica, self._counted.collect, shows_all=True)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_gateway_api(self._directory, self._gate, self._counted, self._metrics)


def create_gateway_api(
    directory: ModelDirectory,
    gate: KeyGate,
    counted: GatewayMetrics,
    shared: SharedMetrics,
) -> FastAPI:
    """The gateway's routes: those of a model's API, for all models."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with shared.told():
            yield

    api = base_api({}, lifespan, gives_request_ids=False)

    @api.get("/v1/models")
    async def list_models(request: Request) -> Response:
        gate.check(authorization(request))
        cards = [_card(model) for model in await directory.models()]
        return JSONResponse(ModelList(data=cards).model_dump())

    @api.get("/v1/models/{name:path}")
    async def retrieve_model(request: Request, name: str) -> Response:
        gate.check(authorization(request))
        return JSONResponse(_card(await directory.find(name)).model_dump())

    for path in PATHS:

        def add(path: str) -> None:
            @api.post(path)
            async def answer(request: Request) -> Response:
                with counted.request() as counting:
                    return await _answer(directory, gate, path, request, counting)

        add(path)

    async def health() -> Response:
        return JSONResponse({"status": "ok", "models": len(await directory.models())})

    api.get("/healthz")(health)
    api.get("/readyz")(health)

    @api.get("/version")
    async def version() -> Response:
        return JSONResponse({"version": __version__})

    @api.get("/metrics")
    async def metrics() -> Response:
        return metrics_page(await shared.of_all())

    return api


def build_gateway(config: GatewayConfig, access: Access) -> Application:
    """The Serve application of the gateway; deploys nothing yet."""
    deployment = serve.deployment(serve.ingress()(Gateway)).options(
        name="Gateway",
        num_replicas=config.num_replicas,
        max_ongoing_requests=config.max_ongoing_requests,
        max_queued_requests=config.max_queued_requests,
        backpressure_config=BACKPRESSURE,
        ray_actor_options={"num_cpus": config.num_cpus},
    )
    return deployment.bind(access)


async def _answer(
    directory: ModelDirectory, gate: KeyGate, path: str, request: Request, counting: GatewayRequest
) -> Response:
    gate.check(authorization(request))
    body = await json_body(request)
    name = body.get("model") if isinstance(body, dict) else None
    if not isinstance(name, str):
        raise RequestError("Missing required parameter: 'model'.", param="model", code="missing_required_parameter")
    model = await directory.find(name)
    body["model"] = counting.model = model.description.model_id
    grant = gate.admit(authorization(request), model.description.model_id)
    calls = model.handle.options(stream=True)
    is_stream = body.get("stream") is True and path.startswith("/v1/")
    items = (calls.streamed if is_stream else calls.whole).remote(path, body)
    try:
        answered = await _begin(items, grant)
    except Exception as e:
        grant.close()
        raise _unreachable(model, e) from e
    except BaseException:  # the client has left
        items.cancel()
        grant.close()
        raise
    headers = model.description.headers | grant.headers()
    if answered.content is None:
        at_end = [grant.close, lambda: counting.close("cut"), items.cancel]
        return EventStream(_events(model, grant, items, counting), at_end, headers)
    if answered.status == 200:
        counting.began()
    counting.close(str(answered.status))
    grant.close()
    return JSONResponse(answered.content, status_code=answered.status, headers=headers)


async def _begin(items: Any, grant: Grant) -> Answered:
    """The whole answer; or, of a stream, that the replica has taken it: what is wrong with a request becomes an HTTP
    status.
    """
    async for item in items:
        grant.charge(item.tokens)
        if isinstance(item, Answered):
            return item
    raise EngineError("The replica ended without an answer.")


async def _events(model: RunningModel, grant: Grant, items: Any, counting: GatewayRequest) -> AsyncIterator[str]:
    """A replica that dies in mid-stream is told as an error event, with no [DONE]."""
    text = ""
    try:
        async for item in items:
            if not text:
                counting.began()
            text = item.text
            grant.charge(item.tokens)
            if text.endswith(DONE):
                counting.close("200")  # before it goes out: many clients leave at once
            yield text
    except Exception as e:  # noqa: BLE001  # Ray's errors, and over gRPC that one's: whatever it is, it is told
        yield error_event(_unreachable(model, e))


def _unreachable(model: RunningModel, error: Exception) -> RequestError:
    if isinstance(error, BackPressureError):
        return OverloadedError(
            f"{model.description.model_id} is busy: its queue is full. Try again in a moment.", code="overloaded"
        )
    logger.warning("%s failed: %s", model.application, error)
    return EngineError(f"{model.description.model_id}: the replica that was answering is gone. Ask again.")


def _card(model: RunningModel) -> ModelCard:
    found = model.description
    return ModelCard(id=found.model_id, created=found.created, max_model_len=found.max_model_len)
