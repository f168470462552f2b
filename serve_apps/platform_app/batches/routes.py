"""The routes of /v1/batches. They write what a client wants to the store; the reconciler does it."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from serve_apps.api.openapi_document import ERRORS, request_body
from serve_apps.http_front.bodies import read_json
from serve_apps.platform_app.batches.batch_store import BatchStore
from serve_apps.platform_app.context import PlatformContext
from serve_apps.platform_app.store.idempotency import HEADER, IdempotentRequest
from tuneyard.api.wire.platform_api.batches import Batch, BatchQuery, CreateBatchRequest
from tuneyard.api.wire.platform_api.lists import ObjectList
from tuneyard.core.errors import RequestError

PURPOSE = "batch"
"""The purpose of files that batches read."""


def add_batch_routes(api: FastAPI, context: PlatformContext, store: BatchStore) -> None:
    """Adds the routes. A key sees only its own batches; the routes count against none of its limits."""

    @api.post("/v1/batches", response_model=Batch, responses=ERRORS, openapi_extra=request_body(CreateBatchRequest))
    async def create_batch(request: Request) -> Response:
        owner = context.owner_of(request)
        body = await read_json(request, context.http.limits)
        wanted = CreateBatchRequest.parse(body)
        file = await context.files.find(owner, wanted.input_file_id)
        if file.purpose != PURPOSE:
            raise RequestError(
                f"The file {file.id} has the purpose {file.purpose!r}; the input file of a batch is uploaded with "
                f"purpose {PURPOSE!r}.",
                param="input_file_id",
                code="invalid_purpose",
            )
        sent = IdempotentRequest(owner, "batches", request.headers.get(HEADER, ""), body)
        limit = context.config.batches.max_active_per_key
        batch = await store.database.run(store.create, sent, wanted, limit)
        return JSONResponse(batch.as_object().model_dump())

    @api.get("/v1/batches", response_model=ObjectList[Batch], responses=ERRORS)
    async def list_batches(request: Request) -> Response:
        owner, page = context.owner_of(request), BatchQuery.parse(dict(request.query_params))
        batches, has_more = await store.database.run(store.read_page, owner, page)
        objects = [batch.as_object() for batch in batches]
        return JSONResponse(ObjectList[Batch].of(objects, has_more=has_more).model_dump())

    @api.get("/v1/batches/{batch_id}", response_model=Batch, responses=ERRORS)
    async def retrieve_batch(request: Request, batch_id: str) -> Response:
        batch = await store.database.run(store.find, context.owner_of(request), batch_id)
        return JSONResponse(batch.as_object().model_dump())

    @api.post("/v1/batches/{batch_id}/cancel", response_model=Batch, responses=ERRORS)
    async def cancel_batch(request: Request, batch_id: str) -> Response:
        batch = await store.database.run(store.cancel, context.owner_of(request), batch_id)
        return JSONResponse(batch.as_object().model_dump())
