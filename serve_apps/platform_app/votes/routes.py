"""The routes of /v1/votes. They need a valid key and count against none of its limits."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel

from serve_apps.api.openapi_document import ERRORS
from serve_apps.http_front.bodies import read_json
from serve_apps.platform_app.context import Caller, PlatformContext
from serve_apps.platform_app.store.idempotency import HEADER
from serve_apps.platform_app.votes.vote_book import VoteBook
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


def add_vote_routes(api: FastAPI, context: PlatformContext, book: VoteBook) -> None:
    """Adds the routes. A key sees only what was sent with it; the administrators' key sees all."""
    run = book.database.run

    async def record(caller: Caller, action: str, target: str) -> None:
        """Records what an administrator does with votes, which are other people's."""
        if caller.is_admin:
            await context.admin_recorder.record(action, target)

    @api.post("/v1/votes", response_model=Vote, responses=ERRORS)
    async def create_vote(request: Request) -> Response:
        caller = context.caller(request)
        vote = VoteRequest.parse(await read_json(request, context.http.limits))
        return _json(await run(book.votes.create, caller, vote.model_dump(exclude_none=True), _key(request)))

    @api.get("/v1/votes", response_model=ObjectList[Vote], responses=ERRORS)
    async def list_votes(request: Request) -> Response:
        caller, query = context.caller(request), VoteQuery.parse(dict(request.query_params))
        votes, has_more = await run(book.votes.list_page, caller, query)
        await record(caller, "vote.read", "votes")
        return _json(ObjectList[Vote].of(votes, has_more=has_more))

    @api.get("/v1/votes/summary", response_model=VoteSummary, responses=ERRORS)
    async def summarize_votes(request: Request) -> Response:
        return _json(await run(book.summarize, context.caller(request)))

    @api.get("/v1/votes/export", responses=ERRORS)
    async def export_votes(request: Request) -> Response:
        caller, query = context.caller(request), ExportQuery.parse(dict(request.query_params))
        await record(caller, "vote.export", query.form)
        return StreamingResponse(
            book.export(caller, query.form),
            media_type="application/jsonl",
            headers={"Content-Disposition": f'attachment; filename="{query.form}.jsonl"'},
        )

    @api.post("/v1/votes/corrections", response_model=Correction, responses=ERRORS)
    async def create_correction(request: Request) -> Response:
        caller = context.caller(request)
        correction = CorrectionRequest.parse(await read_json(request, context.http.limits))
        fields = correction.model_dump(exclude_none=True)
        return _json(await run(book.corrections.create, caller, fields, _key(request)))

    @api.get("/v1/votes/corrections", response_model=ObjectList[Correction], responses=ERRORS)
    async def list_corrections(request: Request) -> Response:
        caller, query = context.caller(request), VoteQuery.parse(dict(request.query_params))
        corrections, has_more = await run(book.corrections.list_page, caller, query)
        await record(caller, "vote.read", "corrections")
        return _json(ObjectList[Correction].of(corrections, has_more=has_more))

    @api.get("/v1/votes/corrections/{correction_id}", response_model=Correction, responses=ERRORS)
    async def retrieve_correction(request: Request, correction_id: str) -> Response:
        caller = context.caller(request)
        correction = await run(book.corrections.find, caller, correction_id)
        await record(caller, "vote.read", correction_id)
        return _json(correction)

    @api.delete("/v1/votes/corrections/{correction_id}", response_model=DeletedVote, responses=ERRORS)
    async def delete_correction(request: Request, correction_id: str) -> Response:
        caller = context.caller(request)
        await run(book.corrections.delete, caller, correction_id)
        await record(caller, "vote.delete", correction_id)
        return _json(DeletedVote(id=correction_id, object="vote.correction.deleted"))

    @api.get("/v1/votes/{vote_id}", response_model=Vote, responses=ERRORS)
    async def retrieve_vote(request: Request, vote_id: str) -> Response:
        caller = context.caller(request)
        vote = await run(book.votes.find, caller, vote_id)
        await record(caller, "vote.read", vote_id)
        return _json(vote)

    @api.delete("/v1/votes/{vote_id}", response_model=DeletedVote, responses=ERRORS)
    async def delete_vote(request: Request, vote_id: str) -> Response:
        caller = context.caller(request)
        await run(book.votes.delete, caller, vote_id)
        await record(caller, "vote.delete", vote_id)
        return _json(DeletedVote(id=vote_id, object="vote.deleted"))


def _key(request: Request) -> str:
    return request.headers.get(HEADER, "")


def _json(content: BaseModel) -> Response:
    return JSONResponse(content.model_dump())
