"""A program that serves a model's API and, below /gateway, a gateway to it, with a watchdog over the event loop.

python -m tests.serve_apps.hostile.server_program CHECKPOINT FOLDER

It has what a replica has, without Ray: a scripted engine, stored responses (in FOLDER), limits of headers. It prints
its URL. GET /-/watchdog gives LoopWatchdog's longest pauses since the request before.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import uvicorn
from fastapi.responses import JSONResponse
from prometheus_client.metrics_core import Metric
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from serve_apps.api.model_calls import ModelCalls, ModelDescription
from serve_apps.api.responses.routes import add_stored_response_routes
from serve_apps.api.responses.store import ResponseStore
from serve_apps.api.responses.stored_responses import StoredResponses
from serve_apps.api.routes import ApiOptions, create_api
from serve_apps.engine_wrappers.measured_engine import MeasuredEngine
from serve_apps.engines.scripted_engine import ScriptedEngine
from serve_apps.gateway.alias_cache import AliasCache
from serve_apps.gateway.app import create_gateway_api
from serve_apps.gateway.metrics import GatewayMetrics
from serve_apps.gateway.model_directory import ModelDirectory
from serve_apps.gateway.running_model import RunningModel
from serve_apps.generation.served_model import ServedModel
from serve_apps.keys.key_gate import KeyGate
from serve_apps.processes.garbage_collection import freeze_loaded_objects
from tests.harmony_text import encode_spelled_out
from tests.serve_apps.api_client import ANSWER
from tests.serve_apps.hostile.loop_watchdog import LoopWatchdog
from tests.serve_apps.hostile.running_server import ADMIN_KEY
from tuneyard.api.header_limits import with_header_limits
from tuneyard.configs.limits.header_limits import HeaderLimits
from tuneyard.configs.responses import ResponsesConfig
from tuneyard.configs.serve import HttpConfig
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings


class LocalHandle:
    """What the gateway uses of a Serve handle, for a replica in this process."""

    def __init__(self, calls: ModelCalls) -> None:
        self.complete = LocalMethod(calls.complete)
        self.stream = LocalMethod(calls.stream)

    def options(self, *, stream: bool) -> LocalHandle:
        assert stream
        return self


class LocalMethod:
    def __init__(self, method: Callable[..., AsyncGenerator[Any, None]]) -> None:
        self._method = method

    def remote(self, *arguments: Any) -> LocalCall:
        return LocalCall(self._method(*arguments))


class LocalCall:
    """The items of a call; they end when it is cancelled, as those of a call of Serve's."""

    def __init__(self, items: AsyncGenerator[Any, None]) -> None:
        self._items = items
        self._reading: asyncio.Future[Any] | None = None
        self._is_cancelled = False

    def __aiter__(self) -> LocalCall:
        return self

    async def __anext__(self) -> Any:
        if self._is_cancelled:
            await self._items.aclose()
            raise StopAsyncIteration
        self._reading = asyncio.ensure_future(anext(self._items))
        try:
            return await self._reading
        except asyncio.CancelledError:
            if self._is_cancelled:
                raise StopAsyncIteration from None
            raise

    def cancel(self) -> None:
        self._is_cancelled = True
        if self._reading is not None:
            self._reading.cancel()


class OneModel(ModelDirectory):
    """The model `tiny`, without Ray; `tiny@production` refers to it, other aliases to nothing."""

    def __init__(self, handle: LocalHandle) -> None:
        super().__init__(AliasCache(lambda alias: "tiny/1" if alias == "tiny@production" else None))
        local: Any = handle
        self._model = RunningModel("tiny", ModelDescription("tiny", "tiny/1", 131_072, 0, {}), local)

    async def models(self) -> list[RunningModel]:
        return [self._model]


class OwnMetrics:
    """The metrics of this process alone."""

    def __init__(self, metrics: GatewayMetrics) -> None:
        self._metrics = metrics

    async def collect_all(self) -> list[Metric]:
        return await self._metrics.collect()


def build_app(checkpoint: Path, folder: Path, watchdog: LoopWatchdog) -> Any:
    """The ASGI application with the model's API, the gateway and the watchdog."""
    script = [encode_spelled_out(checkpoint, ANSWER)]
    options = frozenset({"logit_bias", "response_format"})
    engine = MeasuredEngine(ScriptedEngine(script, max_model_len=131_072, options=options), "tiny", "tiny/1")
    codec = HarmonyCodec.from_checkpoint(checkpoint, CodecSettings())
    model = ServedModel(engine, codec, "tiny", "0123456789abcdef")
    model.warm_up()
    store = ResponseStore.open(ResponsesConfig(store=True, path=folder / "responses.db", max_mib_per_key=16), None)
    stored = StoredResponses(store)
    http = HttpConfig(allowed_hosts=("*",))
    gate = KeyGate(None)
    api = create_api(
        model,
        ApiOptions(admin_key=ADMIN_KEY, gate=gate, http=http, stored_responses=stored, collect_metrics=engine.metrics),
    )
    metrics = GatewayMetrics("r")
    shared: Any = OwnMetrics(metrics)
    gateway = create_gateway_api(OneModel(LocalHandle(ModelCalls(model, stored))), gate, http, metrics, shared)
    add_stored_response_routes(gateway, stored, gate)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/-/watchdog":
            pauses = {"own_pause_s": watchdog.own_pause_s, "cpu_pause_s": watchdog.cpu_pause_s}
            watchdog.reset()
            await JSONResponse(pauses)(scope, receive, send)
        elif scope["path"].startswith("/gateway/"):
            await gateway(scope | {"root_path": "/gateway"}, receive, send)
        else:
            await api(scope, receive, send)

    return app


async def serve(checkpoint: Path, folder: Path) -> None:
    """Serves until the process is ended."""
    async with LoopWatchdog() as watchdog:
        app = build_app(checkpoint, folder, watchdog)
        freeze_loaded_objects()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
            protocol = with_header_limits(AutoHTTPProtocol, HeaderLimits())
            config = uvicorn.Config(app, http=protocol, lifespan="off", log_level="error")
            await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), Path(sys.argv[2])))
