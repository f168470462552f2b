"""The gateway as a Ray Serve application: one /v1 for all models that run on the cluster."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client.metrics_core import Metric
from ray import serve
from ray.serve import Application

from serve_apps.api.model_calls import PATHS
from serve_apps.api.openapi_document import install_document
from serve_apps.api.responses.routes import add_stored_response_routes
from serve_apps.api.responses.store import ResponseStore
from serve_apps.api.responses.stored_responses import StoredResponses
from serve_apps.gateway.forwarding import Forwarder
from serve_apps.gateway.metrics import GatewayMetrics
from serve_apps.gateway.model_directory import ModelDirectory
from serve_apps.gateway.running_model import RunningModel
from serve_apps.http_front.access import Access
from serve_apps.http_front.admission import authorization_header
from serve_apps.http_front.base_api import create_base_api
from serve_apps.keys.key_gate import KeyGate
from serve_apps.keys.model_scope import hidden_model_error, is_restricted, may_use, owner_digest
from serve_apps.metrics.exposition import metrics_page
from serve_apps.metrics.replica_metrics import SharedMetrics
from serve_apps.request_queue import request_queue_options
from serve_apps.tracing.tracing import NO_TRACING, Tracing, open_tracing
from tuneyard import __version__
from tuneyard.api.api_keys import ApiKey
from tuneyard.api.wire.model_list import ModelCard, ModelList
from tuneyard.configs.serve import GatewayConfig, HttpConfig
from tuneyard.core.errors import ModelNotFoundError


class Gateway:
    """The deployment class: plain Python, bound to Ray Serve in build_gateway."""

    def __init__(self, access: Access, directory: ModelDirectory | None = None) -> None:
        self._access = access
        self._directory = directory or ModelDirectory()
        context = serve.get_replica_context()
        replica = context.replica_id.unique_id
        self._own_metrics = GatewayMetrics(replica)
        self._gate = access.open_gate(replica)
        self._tracing = open_tracing(access.tracing, replica)
        self._metrics = SharedMetrics(context.app_name, replica, self._collect_metrics, shows_all_applications=True)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Ray Serve after the constructor."""
        return self._create_api()

    def _create_api(self, multipart_paths: Sequence[str] = (), on_close: Callable[[], None] = lambda: None) -> FastAPI:
        access, gate = self._access, self._gate
        stored = StoredResponses(ResponseStore.open(access.responses, access.database))

        def close() -> None:
            stored.close()
            on_close()

        api = create_gateway_api(
            self._directory,
            gate,
            access.http,
            self._own_metrics,
            self._metrics,
            self._tracing,
            close,
            multipart_paths=multipart_paths,
        )
        add_stored_response_routes(api, stored, gate)
        return api

    async def _collect_metrics(self) -> list[Metric]:
        return [*await self._own_metrics.collect(), *self._gate.collect()]


def build_gateway(config: GatewayConfig, access: Access) -> Application:
    """The gateway's Serve application, not deployed yet."""
    deployment = serve.deployment(serve.ingress()(Gateway)).options(
        name="Gateway",
        num_replicas=config.num_replicas,
        ray_actor_options={"num_cpus": config.num_cpus, "resources": config.resources},
        **request_queue_options(config.max_ongoing_requests, config.max_queued_requests),
    )
    return deployment.bind(access)


def create_gateway_api(
    directory: ModelDirectory,
    gate: KeyGate,
    http: HttpConfig,
    own_metrics: GatewayMetrics,
    shared_metrics: SharedMetrics,
    tracing: Tracing = NO_TRACING,
    on_close: Callable[[], None] = lambda: None,
    *,
    multipart_paths: Sequence[str] = (),
) -> FastAPI:
    """The FastAPI application with the routes of a model's API, for all models. Calls `on_close` at its end.

    `multipart_paths`: see BrowserGuard.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with gate.running(), shared_metrics.publishing():
            yield
        on_close()
        await asyncio.to_thread(tracing.close)

    api = create_base_api(
        {}, lifespan, http=http, sets_request_ids=False, tracing=tracing, multipart_paths=multipart_paths
    )
    _add_model_list(api, directory, gate)
    forwarder = Forwarder(directory, gate, http.limits)
    for path in PATHS:
        _add_forwarded_route(api, path, forwarder, own_metrics)
    _add_operator_routes(api, directory, shared_metrics)
    install_document(api, ())
    return api


def _add_model_list(api: FastAPI, directory: ModelDirectory, gate: KeyGate) -> None:
    @api.get("/v1/models")
    async def list_models(request: Request) -> Response:
        key = gate.authenticate(authorization_header(request))
        models = await directory.models_for(owner_digest(key))
        cards = [_card(model) for model in models if _may_see(key, model)]
        return JSONResponse(ModelList(data=cards).model_dump())

    @api.get("/v1/models/{name:path}")
    async def retrieve_model(request: Request, name: str) -> Response:
        key = gate.authenticate(authorization_header(request))
        try:
            model = await directory.find(name, owner_digest(key))
        except ModelNotFoundError as e:
            # Its message lists all models that run.
            raise (hidden_model_error(name) if is_restricted(key) else e) from e
        if not _may_see(key, model):
            raise hidden_model_error(name)
        return JSONResponse(_card(model).model_dump())


def _add_forwarded_route(api: FastAPI, path: str, forwarder: Forwarder, metrics: GatewayMetrics) -> None:
    @api.post(path)
    async def answer(request: Request) -> Response:
        with metrics.measure_request() as measurement:
            return await forwarder.answer(path, request, measurement)


def _add_operator_routes(api: FastAPI, directory: ModelDirectory, shared_metrics: SharedMetrics) -> None:
    async def health() -> Response:
        return JSONResponse({"status": "ok", "models": len(await directory.models())})

    api.get("/healthz")(health)
    api.get("/readyz")(health)

    @api.get("/version")
    async def version() -> Response:
        return JSONResponse({"version": __version__})

    @api.get("/metrics")
    async def metrics() -> Response:
        return metrics_page(await shared_metrics.collect_all())


def _may_see(key: ApiKey | None, model: RunningModel) -> bool:
    return model.owner is not None or may_use(key, model.description.model_id)


def _card(model: RunningModel) -> ModelCard:
    description = model.description
    return ModelCard(
        id=description.model_id,
        created=description.created,
        owned_by=model.owned_by,
        max_model_len=description.max_model_len,
    )
