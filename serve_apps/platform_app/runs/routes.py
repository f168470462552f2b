"""The routes of /v1/runs and /v1/model_versions. They need the administrators' key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from serve_apps.api.openapi_document import ERRORS
from serve_apps.platform_app.context import PlatformContext
from serve_apps.platform_app.runs.run_reader import RunReader
from serve_apps.platform_app.tuned_models.model_store import ModelStore
from serve_apps.platform_app.tuned_models.tables import LIVE
from tuneyard.api.wire.platform_api.lists import PageQuery
from tuneyard.api.wire.platform_api.runs import (
    CurvesQuery,
    Run,
    RunCurves,
    RunDetails,
    RunList,
    RunQuery,
    ServedBy,
    Version,
    VersionList,
    VersionQuery,
)
from tuneyard.core.errors import RequestError

Listed = TypeVar("Listed", Run, Version)


def add_run_routes(api: FastAPI, context: PlatformContext, reader: RunReader) -> None:
    """Adds the routes."""

    @api.get("/v1/runs", response_model=RunList, responses=ERRORS)
    async def list_runs(request: Request) -> Response:
        context.check_admin(request)
        query = RunQuery.parse(dict(request.query_params))
        runs, problems = await reader.runs()
        page, has_more = page_of(runs, query)
        return _json(RunList.of(page, has_more=has_more).model_copy(update={"problems": problems}))

    @api.get("/v1/runs/{run_id}", response_model=RunDetails, responses=ERRORS)
    async def retrieve_run(request: Request, run_id: str) -> Response:
        context.check_admin(request)
        details = await reader.details(run_id)
        await context.admin_recorder.record("run.read", details.id)  # it holds text of the run's data
        return _json(details)

    @api.get("/v1/runs/{run_id}/metrics", response_model=RunCurves, responses=ERRORS)
    async def read_metrics(request: Request, run_id: str) -> Response:
        context.check_admin(request)
        query = CurvesQuery.parse(dict(request.query_params))
        return _json(await reader.curves(run_id, query.max_points))

    @api.get("/v1/model_versions", response_model=VersionList, responses=ERRORS)
    async def list_versions(request: Request) -> Response:
        context.check_admin(request)
        query = VersionQuery.parse(dict(request.query_params))
        versions = await reader.versions(await _served_versions(context))
        page, has_more = page_of(versions, query)
        return _json(VersionList.of(page, has_more=has_more))


async def _served_versions(context: PlatformContext) -> dict[str, list[ServedBy]]:
    """What serves each version, by the version's name: the models of all keys, and those of single owners."""
    served: dict[str, list[ServedBy]] = {}
    for running in await context.directory.models():
        described = running.description
        deployed = ServedBy(model=described.model_id, reference=described.reference or None)
        served.setdefault(described.version, []).append(deployed)
    for tuned in await context.database.run(ModelStore(context.database).all, LIVE):
        served.setdefault(tuned.version, []).append(ServedBy(model=tuned.name, reference=None))
    return served


def page_of(items: Sequence[Listed], query: PageQuery) -> tuple[list[Listed], bool]:
    """The page of a whole list, and whether more follow. Raises RequestError for an `after` that is not in the list."""
    start = 0
    if query.after is not None:
        ids = [item.id for item in items]
        if query.after not in ids:
            raise RequestError(
                f"after: {query.after!r} is not in the list. Begin again without 'after'.", param="after"
            )
        start = ids.index(query.after) + 1
    end = start + query.limit
    return list(items[start:end]), end < len(items)


def _json(content: BaseModel) -> Response:
    return JSONResponse(content.model_dump(mode="json"))
