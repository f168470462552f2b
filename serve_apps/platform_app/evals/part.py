"""EvalsPart: evals and their runs in the application."""

from __future__ import annotations

from fastapi import FastAPI

from serve_apps.keys.key_gate import KeyGate
from serve_apps.platform_app.context import PlatformContext
from serve_apps.platform_app.evals.eval_store import EvalStore
from serve_apps.platform_app.evals.execution.run_execution import RunExecution
from serve_apps.platform_app.evals.execution.run_progress import RunProgress
from serve_apps.platform_app.evals.execution.run_scheduler import RunScheduler
from serve_apps.platform_app.evals.grader_routes import add_grader_routes
from serve_apps.platform_app.evals.routes import add_eval_routes
from serve_apps.platform_app.evals.run_store import RunStore


class EvalsPart:
    """See Part. A step begins and ends executions of runs, which go on between the steps."""

    name = "evals"

    def __init__(self, context: PlatformContext) -> None:
        self._context = context
        self._progress = RunProgress(context.database)
        self._execution = RunExecution(context.database, self._progress, context.files, context.calls)
        self._scheduler = RunScheduler(self._execution.execute)

    def add_routes(self, api: FastAPI, gate: KeyGate) -> None:
        """See Part."""
        runs = RunStore(self._context.database)
        add_eval_routes(api, self._context, EvalStore(self._context.database, runs), runs)
        add_grader_routes(api, self._context, gate)

    async def reconcile(self, now: float) -> None:  # noqa: ARG002  # see Part
        """See Part."""
        await self._scheduler.step(await self._context.database.run(self._progress.active))

    async def close(self) -> None:
        """See Part."""
        await self._scheduler.close()
