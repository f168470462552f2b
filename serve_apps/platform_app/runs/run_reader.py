"""RunReader: all runs of the cluster, one run, its curves, and all versions; read anew after a moment."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from serve_apps.platform_app.files.records import not_found
from serve_apps.platform_app.fine_tuning.execution.registry_run_records import points_by_step
from serve_apps.platform_app.fine_tuning.execution.run_records import MetricPoint
from serve_apps.platform_app.runs.curves import build_curves
from serve_apps.platform_app.runs.run_folder import RunFiles, hide_in_values, read_run_folder
from serve_apps.platform_app.runs.run_jobs import RunJob, RunJobs
from serve_apps.platform_app.runs.run_summary import KnownRun, join_runs, summarize
from serve_apps.platform_app.runs.version_list import describe_version
from tuneyard.api.wire.platform_api.runs import Run, RunCurves, RunDetails, ServedBy, Version
from tuneyard.checkpoints.registry import RUN_FOLDER, LoggedRun, ModelRegistry, ModelVersion
from tuneyard.core.errors import ClusterError, StoreUnavailableError

MAX_RUNS = 200
"""Runs that are listed, at most: the newest ones."""

KEPT_S = 1.0
"""Seconds for which what was read is given again: many pages may ask at once."""

PACE_POINTS = 20
"""Steps whose time gives the pace of a run."""

KEPT_CURVES = 16
"""Runs whose points are kept, until the run logs new ones."""

Result = TypeVar("Result")


class RunReader:
    """Reads the registry, which `open_registry` opens once, and Ray's jobs. `now` gives Unix time in seconds.

    All methods raise StoreUnavailableError if the registry does not answer. If Ray's job server does not, runs are
    told without their jobs, and `problems` says so.
    """

    def __init__(
        self, open_registry: Callable[[], Awaitable[ModelRegistry]], jobs: RunJobs, now: Callable[[], float] = time.time
    ) -> None:
        self._open_registry = open_registry
        self._jobs = jobs
        self._now = now
        self._known: tuple[float, list[KnownRun], tuple[str, ...]] | None = None
        self._points: OrderedDict[tuple[str, int], list[MetricPoint]] = OrderedDict()
        """By the run's id and the time of its newest value in ms, which changes when there is more."""
        self._reading = asyncio.Lock()

    async def runs(self) -> tuple[list[Run], tuple[str, ...]]:
        """The newest runs, and one sentence for each source that does not answer."""
        known, problems = await self._all()
        return [await self._summary(run) for run in known], problems

    async def details(self, run_id: str) -> RunDetails:
        """One run. Raises ObjectNotFoundError."""
        run, problems = await self._find(run_id)
        params = run.logged.params if run.logged is not None else {}
        folder = params.get(RUN_FOLDER)
        files = await asyncio.to_thread(read_run_folder, folder) if folder else RunFiles()
        if folder is None and run.logged is not None:
            problems = (*problems, "An earlier release wrote this run, without the place of its folder.")
        return RunDetails(
            **(await self._summary(run)).model_dump(),
            folder=folder,
            config=files.config,
            data=files.data,
            params=hide_in_values(params),
            problems=(*problems, *files.problems),
        )

    async def curves(self, run_id: str, max_points: int) -> RunCurves:
        """The run's metrics. Raises ObjectNotFoundError."""
        run, _ = await self._find(run_id)
        points = await self._read_points(run.logged) if run.logged is not None else []
        return RunCurves(
            run=run_id, last_step=points[-1].step if points else None, curves=build_curves(points, max_points)
        )

    async def versions(self, served: Mapping[str, Sequence[ServedBy]]) -> list[Version]:
        """All versions, the newest first. `served` is by versions' names."""
        aliases, versions = await self._read(lambda registry: (registry.all_aliases(), registry.all_versions()))
        return [describe_version(version, aliases.get(version.name, {}), served) for version in versions]

    async def _find(self, run_id: str) -> tuple[KnownRun, tuple[str, ...]]:
        known, problems = await self._all()
        for run in known:
            if run_id in (run.id, run.job.id if run.job is not None else None):
                return run, problems
        logged = await self._read(lambda registry: registry.run(run_id))
        if logged is None:
            raise not_found("Run", run_id)
        return KnownRun(logged, None), problems

    async def _all(self) -> tuple[list[KnownRun], tuple[str, ...]]:
        async with self._reading:
            if self._known is None or time.monotonic() - self._known[0] > KEPT_S:
                (logged, versions), (jobs, problems) = await asyncio.gather(self._read(_read_runs), self._read_jobs())
                # A run may have registered earlier checkpoints too, after its last one.
                ordered = sorted(versions, key=lambda version: (version.step or 0, version.created_at))
                names = {v.run_id: f"{v.name}/{v.version}" for v in ordered if v.run_id is not None}
                known = join_runs(logged, jobs, names)[:MAX_RUNS]
                self._known = time.monotonic(), known, problems
            return self._known[1:]

    async def _read_jobs(self) -> tuple[Sequence[RunJob], tuple[str, ...]]:
        try:
            return await self._jobs.all(), ()
        except ClusterError as e:
            return (), (f"Ray's jobs are not known: {e}",)

    async def _summary(self, run: KnownRun) -> Run:
        now = self._now()
        summary = summarize(run, (), now)
        if summary.status != "running" or run.logged is None:
            return summary
        points = [point for point in await self._read_points(run.logged) if "epoch" in point.values]
        return summarize(run, points[-PACE_POINTS:], now)

    async def _read_points(self, run: LoggedRun) -> list[MetricPoint]:
        key = run.run_id, max((round(point.logged_at * 1000) for point in run.latest.values()), default=0)
        if key not in self._points:
            names = list(run.latest)

            def read(registry: ModelRegistry) -> list[MetricPoint]:
                return points_by_step(point for name in names for point in registry.points(run.run_id, name))

            self._points[key] = await self._read(read)
            while len(self._points) > KEPT_CURVES:
                self._points.popitem(last=False)
        return self._points[key]

    async def _read(self, read: Callable[[ModelRegistry], Result]) -> Result:
        registry = await self._open_registry()
        try:
            return await asyncio.to_thread(read, registry)
        except Exception as e:  # MLflow raises whatever its store or its connection raises
            raise StoreUnavailableError(f"The registry {hide_in_values(registry.uri)} does not answer: {e}") from e


def _read_runs(registry: ModelRegistry) -> tuple[list[LoggedRun], list[ModelVersion]]:
    return registry.runs(MAX_RUNS), registry.all_versions()
