"""The runs' part of the application: routes only, nothing to reconcile."""

from __future__ import annotations

from fastapi import FastAPI

from serve_apps.keys.key_gate import KeyGate
from serve_apps.platform_app.context import PlatformContext
from serve_apps.platform_app.fine_tuning.records.job_store import JobStore
from serve_apps.platform_app.runs.routes import add_run_routes
from serve_apps.platform_app.runs.run_jobs import RayRunJobs, WaitingJobs
from serve_apps.platform_app.runs.run_reader import RunReader
from serve_apps.platform_app.tuned_models.registry_model_files import RegistryModelFiles


class RunsPart:
    """Runs and versions; see Part. `reader` defaults to the registry and the jobs of this process' cluster."""

    name = "runs"

    def __init__(self, context: PlatformContext, reader: RunReader | None = None) -> None:
        self._context = context
        jobs = WaitingJobs(JobStore(context.database), RayRunJobs())
        self._reader = reader or RunReader(RegistryModelFiles().registry, jobs)

    def add_routes(self, api: FastAPI, gate: KeyGate) -> None:  # noqa: ARG002  # the context has the same gate
        """See Part."""
        add_run_routes(api, self._context, self._reader)

    async def reconcile(self, now: float) -> None:
        """See Part. Nothing: the runs' own records are read."""

    async def close(self) -> None:
        """See Part."""
