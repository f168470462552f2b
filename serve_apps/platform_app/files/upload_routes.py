"""The routes of /v1/uploads."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from serve_apps.api.openapi_document import ERRORS
from serve_apps.http_front.bodies import read_json
from serve_apps.platform_app.context import PlatformContext
from serve_apps.platform_app.files.form_body import (
    UploadDoor,
    declared_bytes,
    file_blocks,
    storage_errors_for_clients,
)
from serve_apps.platform_app.files.multipart_form import MultipartForm
from serve_apps.platform_app.files.upload_service import UploadService
from serve_apps.platform_app.store.idempotency import HEADER
from tuneyard.api.wire.platform_api.files import CompleteRequest, UploadObject, UploadPart, UploadRequest
from tuneyard.core.errors import RequestError


def add_upload_routes(api: FastAPI, context: PlatformContext, uploads: UploadService, door: UploadDoor) -> None:
    """Adds the routes. A key sees only the uploads that were made with it."""
    records, limits, run = uploads.records, context.http.limits, context.database.run
    max_part_bytes = context.config.max_part_mib * 2**20
    max_bytes = context.config.max_upload_gib * 2**30

    @api.post("/v1/uploads", response_model=UploadObject, responses=ERRORS)
    async def create_upload(request: Request) -> Response:
        owner = context.owner_of(request)
        parsed = UploadRequest.parse(await read_json(request, limits))
        if parsed.bytes > max_bytes:
            raise RequestError(
                f"Invalid value for 'bytes': {parsed.bytes:,}; a file may have at most {int(max_bytes):,} "
                "(platform.max_upload_gib).",
                param="bytes",
                code="limit_exceeded",
            )
        upload = await run(records.create, owner, parsed, request.headers.get(HEADER, ""))
        return JSONResponse(upload.as_object(None).model_dump())

    @api.post("/v1/uploads/{upload_id}/parts", response_model=UploadPart, responses=ERRORS)
    async def add_part(request: Request, upload_id: str) -> Response:
        async with door.admit(request) as owner:
            size = declared_bytes(request, max_part_bytes) or int(max_part_bytes)
            form = MultipartForm(request.headers.get("Content-Type", ""), "data")
            blocks = file_blocks(request, form, max_part_bytes, limits)
            return JSONResponse((await uploads.add_part(owner, upload_id, size, blocks)).model_dump())

    @api.post("/v1/uploads/{upload_id}/complete", response_model=UploadObject, responses=ERRORS)
    async def complete_upload(request: Request, upload_id: str) -> Response:
        owner = context.owner_of(request)
        parsed = CompleteRequest.parse(await read_json(request, limits))
        with storage_errors_for_clients():
            upload, file = await uploads.complete(owner, upload_id, parsed.part_ids, parsed.md5)
        return JSONResponse(upload.as_object(file.as_object()).model_dump())

    @api.post("/v1/uploads/{upload_id}/cancel", response_model=UploadObject, responses=ERRORS)
    async def cancel_upload(request: Request, upload_id: str) -> Response:
        upload = await run(records.cancel, context.owner_of(request), upload_id)
        return JSONResponse(upload.as_object(None).model_dump())
