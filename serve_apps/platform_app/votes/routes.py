"""The routes of /v1/votes. They need a valid key and count against none of its limits."""

from __future__ import annotations

from typing import Generic

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel

from serve_apps.api.openapi_document import ERRORS
from serve_apps.http_front.bodies import read_json
from serve_apps.platform_app.context import Caller, PlatformContext
from serve_apps.platform_app.store.idempotency import HEADER
from serve_apps.platform_app.votes.records import Record, Records
from serve_apps.platform_app.votes.vote_book import VoteBook
from tuneyard.api.wire.base import WireModel
from tuneyard.api.wire.platform_api.lists import ObjectList
from tuneyard.api.wire.platform_api.votes import (
    Correction,
    CorrectionRequest,
    DeletedVote,
    ExportQuery,
    Vote,
    VoteQuery,
    VoteRequest,
    VoteSummary,
)


class _KeptRecords(Generic[Record]):
    """Answers about the stored records of one kind. What an administrator does is recorded: it is other people's."""

    def __init__(self, context: PlatformContext, book: VoteBook, records: Records[Record], kind: type[Record]) -> None:
        self._context = context
        self._run = book.database.run
        self._records = records
        self._page = ObjectList[kind]  # type: ignore[valid-type]

    async def create(self, request: Request, body: type[WireModel]) -> Response:
        """Keeps what a request of the form `body` sends."""
        caller = self._context.caller(request)
        fields = body.parse(await read_json(request, self._context.http.limits)).model_dump(exclude_none=True)
        return _json(await self._run(self._records.create, caller, fields, request.headers.get(HEADER, "")))

    async def list(self, request: Request, name: str) -> Response:
        """One page of them; `name` is what an administrator's entry says was read."""
        caller, query = self._context.caller(request), VoteQuery.parse(dict(request.query_params))
        records, has_more = await self._run(self._records.list_page, caller, query)
        await self.note(caller, "vote.read", name)
        return _json(self._page.of(records, has_more=has_more))

    async def retrieve(self, request: Request, record_id: str) -> Response:
        """One of them."""
        caller = self._context.caller(request)
        record = await self._run(self._records.find, caller, record_id)
        await self.note(caller, "vote.read", record_id)
        return _json(record)

    async def delete(self, request: Request, deleted: DeletedVote) -> Response:
        """Deletes one of them and answers `deleted`, which names it."""
        caller = self._context.caller(request)
        await self._run(self._records.delete, caller, deleted.id)
        await self.note(caller, "vote.delete", deleted.id)
        return _json(deleted)

    async def note(self, caller: Caller, action: str, target: str) -> None:
        """Records the action if the caller is an administrator."""
        if caller.is_admin:
            await self._context.admin_recorder.record(action, target)


def add_vote_routes(api: FastAPI, context: PlatformContext, book: VoteBook) -> None:
    """Adds the routes. A key sees only what was sent with it; the administrators' key sees all."""
    votes = _KeptRecords(context, book, book.votes, Vote)

    @api.post("/v1/votes", response_model=Vote, responses=ERRORS)
    async def create_vote(request: Request) -> Response:
        return await votes.create(request, VoteRequest)

    @api.get("/v1/votes", response_model=ObjectList[Vote], responses=ERRORS)
    async def list_votes(request: Request) -> Response:
        return await votes.list(request, "votes")

    @api.get("/v1/votes/summary", response_model=VoteSummary, responses=ERRORS)
    async def summarize_votes(request: Request) -> Response:
        return _json(await book.database.run(book.summarize, context.caller(request)))

    @api.get("/v1/votes/export", responses=ERRORS)
    async def export_votes(request: Request) -> Response:
        caller, query = context.caller(request), ExportQuery.parse(dict(request.query_params))
        await votes.note(caller, "vote.export", query.form)
        return StreamingResponse(
            book.export(caller, query.form),
            media_type="application/jsonl",
            headers={"Content-Disposition": f'attachment; filename="{query.form}.jsonl"'},
        )

    # Before /v1/votes/{vote_id}, which would take "corrections" for an id.
    _add_correction_routes(api, _KeptRecords(context, book, book.corrections, Correction))

    @api.get("/v1/votes/{vote_id}", response_model=Vote, responses=ERRORS)
    async def retrieve_vote(request: Request, vote_id: str) -> Response:
        return await votes.retrieve(request, vote_id)

    @api.delete("/v1/votes/{vote_id}", response_model=DeletedVote, responses=ERRORS)
    async def delete_vote(request: Request, vote_id: str) -> Response:
        return await votes.delete(request, DeletedVote(id=vote_id, object="vote.deleted"))


def _add_correction_routes(api: FastAPI, corrections: _KeptRecords[Correction]) -> None:
    @api.post("/v1/votes/corrections", response_model=Correction, responses=ERRORS)
    async def create_correction(request: Request) -> Response:
        return await corrections.create(request, CorrectionRequest)

    @api.get("/v1/votes/corrections", response_model=ObjectList[Correction], responses=ERRORS)
    async def list_corrections(request: Request) -> Response:
        return await corrections.list(request, "corrections")

    @api.get("/v1/votes/corrections/{correction_id}", response_model=Correction, responses=ERRORS)
    async def retrieve_correction(request: Request, correction_id: str) -> Response:
        return await corrections.retrieve(request, correction_id)

    @api.delete("/v1/votes/corrections/{correction_id}", response_model=DeletedVote, responses=ERRORS)
    async def delete_correction(request: Request, correction_id: str) -> Response:
        return await corrections.delete(request, DeletedVote(id=correction_id, object="vote.correction.deleted"))


def _json(content: BaseModel) -> Response:
    return JSONResponse(content.model_dump())
