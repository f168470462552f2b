"""BatchesPart: batches as a part of the application."""

from __future__ import annotations

import time
from collections.abc import Callable

from fastapi import FastAPI

from serve_apps.keys.key_gate import KeyGate
from serve_apps.platform_app.batches.batch_store import BatchStore
from serve_apps.platform_app.batches.execution.batch_run import BatchServices
from serve_apps.platform_app.batches.execution.batch_work import BatchWork
from serve_apps.platform_app.batches.execution.model_lane import ModelLane
from serve_apps.platform_app.batches.routes import add_batch_routes
from serve_apps.platform_app.context import PlatformContext


class BatchesPart:
    """See Part. `now` gives Unix time in seconds."""

    name = "batches"

    def __init__(self, context: PlatformContext, now: Callable[[], float] = time.time) -> None:
        self._context = context
        self._store = BatchStore(context.database, now)
        self._lanes: dict[str, ModelLane] = {}
        self._work = BatchWork(
            BatchServices(
                store=self._store,
                files=context.files,
                calls=context.calls,
                location=context.config.files,
                limits=context.config.batches,
                http_limits=context.http.limits,
                lane_of=self._lane_of,
            )
        )

    def add_routes(self, api: FastAPI, gate: KeyGate) -> None:  # noqa: ARG002  # the context has the same gate
        """Adds /v1/batches."""
        add_batch_routes(api, self._context, self._store)

    async def reconcile(self, now: float) -> None:
        """Begins and ends the work on batches, which goes on between the steps."""
        await self._work.step(now)

    async def close(self) -> None:
        """Ends the work."""
        await self._work.close()

    def _lane_of(self, model: str) -> ModelLane:
        """The lane of a model. Those that nobody uses are dropped."""
        if model not in self._lanes:
            self._lanes = {name: lane for name, lane in self._lanes.items() if lane.running}
            self._lanes[model] = ModelLane(self._context.config.batches.max_concurrent_requests)
        return self._lanes[model]
