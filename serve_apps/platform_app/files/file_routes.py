"""The routes of /v1/files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel

from serve_apps.api.openapi_document import ERRORS
from serve_apps.platform_app.context import PlatformContext
from serve_apps.platform_app.files.file_service import FileService, ReceivedFile
from serve_apps.platform_app.files.form_body import (
    UploadDoor,
    declared_bytes,
    file_blocks,
    storage_errors_for_clients,
)
from serve_apps.platform_app.files.multipart_form import MultipartForm
from serve_apps.platform_app.files.records import FileRecord
from serve_apps.platform_app.files.row_check import check_content
from tuneyard.api.wire.platform_api.files import (
    DeletedFile,
    ExpiresAfter,
    FileObject,
    FileQuery,
    check_purpose,
    clean_filename,
)
from tuneyard.api.wire.platform_api.lists import ObjectList
from tuneyard.core.errors import RequestError

EXPIRY_FIELDS = ("expires_after[anchor]", "expires_after[seconds]")


def add_file_routes(api: FastAPI, context: PlatformContext, door: UploadDoor) -> None:
    """Adds the routes. A key sees only the files that were made with it. Reading counts against none of its limits."""
    files, limits = context.files, context.http.limits
    max_bytes = context.config.max_file_mib * 2**20

    @api.post("/v1/files", response_model=FileObject, responses=ERRORS)
    async def create_file(request: Request) -> Response:
        async with door.admit(request) as owner:
            size = declared_bytes(request, max_bytes)
            form = MultipartForm(request.headers.get("Content-Type", ""), "file", ("purpose", *EXPIRY_FIELDS))
            async with files.receive(owner, size=size) as receiving:
                async for block in file_blocks(request, form, max_bytes, limits):
                    if not receiving.bytes.size and "purpose" in form.values:
                        check_purpose(form.values["purpose"])  # before the whole file has arrived
                    await receiving.write(block)
                return _json((await _finish(receiving, form)).as_object())

    @api.get("/v1/files", response_model=ObjectList[FileObject], responses=ERRORS)
    async def list_files(request: Request) -> Response:
        owner, query = context.owner_of(request), FileQuery.parse(dict(request.query_params))
        records, has_more = await files.list_page(owner, query)
        return _json(ObjectList[FileObject].of([record.as_object() for record in records], has_more=has_more))

    @api.get("/v1/files/{file_id}", response_model=FileObject, responses=ERRORS)
    async def retrieve_file(request: Request, file_id: str) -> Response:
        return _json((await files.find(context.owner_of(request), file_id)).as_object())

    @api.get("/v1/files/{file_id}/content", response_class=Response, responses=ERRORS)
    async def retrieve_content(request: Request, file_id: str) -> Response:
        record = await files.find(context.owner_of(request), file_id)
        with storage_errors_for_clients():
            return await _content(files, record)

    @api.delete("/v1/files/{file_id}", response_model=DeletedFile, responses=ERRORS)
    async def delete_file(request: Request, file_id: str) -> Response:
        await files.delete(context.owner_of(request), file_id)
        return _json(DeletedFile(id=file_id))


async def _finish(receiving: ReceivedFile, form: MultipartForm) -> FileRecord:
    """Makes it a file, if the form is right. Raises RequestError if not."""
    if "purpose" not in form.values:
        raise RequestError("Missing required parameter: 'purpose'.", param="purpose", code="missing_required_parameter")
    purpose = check_purpose(form.values["purpose"])
    filename = clean_filename(form.filename or "")
    expires_after_s = _expiry_of(form)
    if not receiving.bytes.size:
        raise RequestError("The file is empty.", param="file", code="empty_file")
    details = await check_content(receiving.bytes, purpose, filename)
    return await receiving.finish(purpose, filename, expires_after_s, details)


def _expiry_of(form: MultipartForm) -> float | None:
    given = {name[14:-1]: form.values[name] for name in EXPIRY_FIELDS if name in form.values}
    if not given:
        return None
    seconds = given.get("seconds", "")
    is_number = seconds.isascii() and seconds.isdecimal() and len(seconds) < 10
    try:
        return ExpiresAfter.parse(given | ({"seconds": int(seconds)} if is_number else {})).seconds
    except RequestError as e:
        raise RequestError(e.message, param=f"expires_after.{e.param}", code=e.code) from e


async def _content(files: FileService, record: FileRecord) -> Response:
    """The content, whose first block is read before the answer begins, so that an error is an answer."""
    blocks = files.blocks(record)
    first = await anext(blocks, b"")

    async def send() -> AsyncIterator[bytes]:
        yield first
        async for block in blocks:
            yield block

    # A browser saves the file and never shows it as a page of this server.
    headers = {
        "Content-Length": str(record.bytes),
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(record.filename, safe='')}",
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(send(), media_type="application/octet-stream", headers=headers)


def _json(content: BaseModel) -> Response:
    return JSONResponse(content.model_dump())
