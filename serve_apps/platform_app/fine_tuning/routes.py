"""The routes of /v1/fine_tuning/jobs. They need a valid key and count against none of its limits."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from serve_apps.api.openapi_document import ERRORS
from serve_apps.http_front.admission import authorization_header
from serve_apps.http_front.bodies import read_json
from serve_apps.http_front.events import EventStreamResponse
from serve_apps.keys.key_gate import KeyGate
from serve_apps.platform_app.context import PlatformContext
from serve_apps.platform_app.fine_tuning.event_stream import stream_events
from serve_apps.platform_app.fine_tuning.job_service import JobService
from serve_apps.platform_app.fine_tuning.records.job_record import JobRecord
from serve_apps.platform_app.fine_tuning.records.job_store import MetadataFilter
from serve_apps.platform_app.store.idempotency import HEADER
from tuneyard.api.wire.platform_api.fine_tuning import (
    CreateJobRequest,
    EventQuery,
    FineTuningJob,
    FineTuningJobCheckpoint,
    FineTuningJobEvent,
)
from tuneyard.api.wire.platform_api.lists import ObjectList, PageQuery
from tuneyard.core.errors import RequestError

_METADATA = re.compile(r"metadata\[(.{1,64})\]", re.DOTALL)


def add_job_routes(api: FastAPI, gate: KeyGate, context: PlatformContext, service: JobService) -> None:
    """Adds the routes. A key sees only the jobs that were created with it."""
    organization = context.config.organization
    jobs, run = service.jobs, service.jobs.database.run

    def answer(job: JobRecord) -> Response:
        return _json(job.as_object(organization))

    @api.post("/v1/fine_tuning/jobs", response_model=FineTuningJob, responses=ERRORS)
    async def create_job(request: Request) -> Response:
        key = gate.authenticate(authorization_header(request))
        parsed = CreateJobRequest.parse(await read_json(request, context.http.limits))
        return answer(await service.create(key, parsed, request.headers.get(HEADER, "")))

    @api.get("/v1/fine_tuning/jobs", response_model=ObjectList[FineTuningJob], responses=ERRORS)
    async def list_jobs(request: Request) -> Response:
        owner = context.owner_of(request)
        query, wanted = parse_job_query(request)
        found, has_more = await run(jobs.page, owner, query, wanted)
        objects = [job.as_object(organization) for job in found]
        return _json(ObjectList[FineTuningJob].of(objects, has_more=has_more))

    @api.get("/v1/fine_tuning/jobs/{job_id}", response_model=FineTuningJob, responses=ERRORS)
    async def retrieve_job(request: Request, job_id: str) -> Response:
        return answer(await run(jobs.find, context.owner_of(request), job_id))

    wishes: dict[str, Callable[[str, str], Awaitable[JobRecord]]] = {
        "cancel": service.cancel,
        "pause": service.pause,
        "resume": service.resume,
    }
    for name, wish in wishes.items():
        _add_wish(api, f"/v1/fine_tuning/jobs/{{job_id}}/{name}", context, wish, answer)

    @api.get("/v1/fine_tuning/jobs/{job_id}/events", response_model=ObjectList[FineTuningJobEvent], responses=ERRORS)
    async def list_events(request: Request, job_id: str) -> Response:
        owner, query = context.owner_of(request), EventQuery.parse(dict(request.query_params))
        if query.stream:
            await run(jobs.find, owner, job_id)
            events = stream_events(jobs, owner, job_id, query.after)
            return EventStreamResponse(events, [], {}, request.app.state.heartbeat_s)
        found, has_more = await run(jobs.events, owner, job_id, query)
        return _json(ObjectList[FineTuningJobEvent].of(found, has_more=has_more))

    @api.get(
        "/v1/fine_tuning/jobs/{job_id}/checkpoints",
        response_model=ObjectList[FineTuningJobCheckpoint],
        responses=ERRORS,
    )
    async def list_checkpoints(request: Request, job_id: str) -> Response:
        owner, query = context.owner_of(request), PageQuery.parse(dict(request.query_params))
        found, has_more = await run(jobs.checkpoints, owner, job_id, query)
        return _json(ObjectList[FineTuningJobCheckpoint].of(found, has_more=has_more))


def _add_wish(
    api: FastAPI,
    path: str,
    context: PlatformContext,
    wish: Callable[[str, str], Awaitable[JobRecord]],
    answer: Callable[[JobRecord], Response],
) -> None:
    @api.post(path, response_model=FineTuningJob, responses=ERRORS)
    async def change_job(request: Request, job_id: str) -> Response:
        return answer(await wish(context.owner_of(request), job_id))


def parse_job_query(request: Request) -> tuple[PageQuery, MetadataFilter]:
    """The page, and the filter of OpenAI's syntax: `metadata[key]=value` for each pair, or `metadata=null`."""
    page: dict[str, Any] = {}
    wanted: dict[str, str] = {}
    is_without = False
    for name, value in request.query_params.multi_items():
        if match := _METADATA.fullmatch(name):
            wanted[match[1]] = value
        elif name == "metadata" and value == "null":
            is_without = True
        else:
            page[name] = value
    if is_without and wanted:
        raise RequestError(
            "Send either 'metadata=null' or 'metadata[key]=value', not both.", param="metadata", code="invalid_value"
        )
    return PageQuery.parse(page), None if is_without else wanted


def _json(content: BaseModel) -> Response:
    return JSONResponse(content.model_dump())
