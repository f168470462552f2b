"""Serves an engine over HTTP from a thread of this process, without Ray."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvicorn

from serve_apps.api.routes import ApiOptions, create_api
from serve_apps.engine_wrappers.measured_engine import MeasuredEngine
from serve_apps.engines.engine import InferenceEngine
from serve_apps.generation.served_model import ServedModel
from tuneyard.harmony.codec import HarmonyCodec
from ui.server.listening import open_socket


class ServedApi:
    """A running server of the model API, with the model id `tiny`; `root` is its URL."""

    def __init__(
        self,
        engine: InferenceEngine,
        codec: HarmonyCodec,
        *,
        middleware: Callable[[Any], Any] = lambda app: app,
        **options: Any,
    ) -> None:
        """`middleware` wraps the ASGI application; `options` are further ones of ApiOptions."""
        measured = MeasuredEngine(engine, "tiny", "tiny/1")
        model = ServedModel(measured, codec, "tiny", "0123456789abcdef")

        @contextlib.asynccontextmanager
        async def lifespan() -> AsyncIterator[None]:
            yield
            await measured.shutdown()

        api = create_api(model, ApiOptions(collect_metrics=measured.metrics, lifespan=lifespan, **options))
        socket = open_socket("127.0.0.1", 0)
        self.root = f"http://127.0.0.1:{socket.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(middleware(api), log_level="warning"))
        self._ready = threading.Event()

        async def serve() -> None:
            await measured.start()
            self._ready.set()
            await self._server.serve(sockets=[socket])

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(60)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)
