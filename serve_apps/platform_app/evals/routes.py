"""The routes of /v1/evals. They need a valid key and count against none of its limits."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from serve_apps.api.openapi_document import ERRORS
from serve_apps.http_front.bodies import read_json
from serve_apps.platform_app.context import PlatformContext
from serve_apps.platform_app.evals.criteria import check_eval
from serve_apps.platform_app.evals.eval_store import EvalStore
from serve_apps.platform_app.evals.run_checks import check_run
from serve_apps.platform_app.evals.run_store import RunStore
from serve_apps.platform_app.store.idempotency import HEADER, IdempotentRequest
from tuneyard.api.wire.platform_api.eval_runs import (
    CreateRunRequest,
    DeletedRun,
    EvalRun,
    OutputItem,
    OutputItemQuery,
    RunQuery,
)
from tuneyard.api.wire.platform_api.evals import (
    CreateEvalRequest,
    DeletedEval,
    EvalObject,
    EvalQuery,
    UpdateEvalRequest,
)
from tuneyard.api.wire.platform_api.lists import ObjectList


def add_eval_routes(api: FastAPI, context: PlatformContext, evals: EvalStore, runs: RunStore) -> None:
    """Adds the routes. A key sees only what was created with it."""
    _add_evals(api, context, evals)
    _add_runs(api, context, evals, runs)
    _add_output_items(api, context, runs)


def _add_evals(api: FastAPI, context: PlatformContext, evals: EvalStore) -> None:
    run = context.database.run

    @api.post("/v1/evals", response_model=EvalObject, responses=ERRORS, status_code=201)
    async def create_eval(request: Request) -> Response:
        owner = context.owner_of(request)
        body = await read_json(request, context.http.limits)
        content = CreateEvalRequest.parse(body)
        check_eval(content)
        return _json(await run(evals.create, _idempotent(request, owner, "evals", body), content), 201)

    @api.get("/v1/evals", response_model=ObjectList[EvalObject], responses=ERRORS)
    async def list_evals(request: Request) -> Response:
        owner, query = context.owner_of(request), EvalQuery.parse(dict(request.query_params))
        objects, has_more = await run(evals.list_page, owner, query)
        return _json(ObjectList[EvalObject].of(objects, has_more=has_more))

    @api.get("/v1/evals/{eval_id}", response_model=EvalObject, responses=ERRORS)
    async def retrieve_eval(request: Request, eval_id: str) -> Response:
        return _json(await run(evals.retrieve, context.owner_of(request), eval_id))

    @api.post("/v1/evals/{eval_id}", response_model=EvalObject, responses=ERRORS)
    async def update_eval(request: Request, eval_id: str) -> Response:
        owner = context.owner_of(request)
        content = UpdateEvalRequest.parse(await read_json(request, context.http.limits))
        return _json(await run(evals.update, owner, eval_id, content))

    @api.delete("/v1/evals/{eval_id}", response_model=DeletedEval, responses=ERRORS)
    async def delete_eval(request: Request, eval_id: str) -> Response:
        await run(evals.delete, context.owner_of(request), eval_id)
        return _json(DeletedEval(eval_id=eval_id))


def _add_runs(api: FastAPI, context: PlatformContext, evals: EvalStore, runs: RunStore) -> None:
    run = context.database.run

    @api.post("/v1/evals/{eval_id}/runs", response_model=EvalRun, responses=ERRORS, status_code=201)
    async def create_run(request: Request, eval_id: str) -> Response:
        owner = context.owner_of(request)
        body = await read_json(request, context.http.limits)
        content = CreateRunRequest.parse(body)
        await check_run(content, await run(evals.retrieve, owner, eval_id), context, owner)
        created = await run(runs.create, _idempotent(request, owner, f"{eval_id}/runs", body), eval_id, content)
        return _json(_with_url(request, created), 201)

    @api.get("/v1/evals/{eval_id}/runs", response_model=ObjectList[EvalRun], responses=ERRORS)
    async def list_runs(request: Request, eval_id: str) -> Response:
        owner, query = context.owner_of(request), RunQuery.parse(dict(request.query_params))
        objects, has_more = await run(runs.list_page, owner, eval_id, query)
        return _json(ObjectList[EvalRun].of([_with_url(request, o) for o in objects], has_more=has_more))

    @api.get("/v1/evals/{eval_id}/runs/{run_id}", response_model=EvalRun, responses=ERRORS)
    async def retrieve_run(request: Request, eval_id: str, run_id: str) -> Response:
        return _json(_with_url(request, await run(runs.retrieve, context.owner_of(request), eval_id, run_id)))

    @api.post("/v1/evals/{eval_id}/runs/{run_id}", response_model=EvalRun, responses=ERRORS)
    @api.post("/v1/evals/{eval_id}/runs/{run_id}/cancel", response_model=EvalRun, responses=ERRORS)
    async def cancel_run(request: Request, eval_id: str, run_id: str) -> Response:
        return _json(_with_url(request, await run(runs.cancel, context.owner_of(request), eval_id, run_id)))

    @api.delete("/v1/evals/{eval_id}/runs/{run_id}", response_model=DeletedRun, responses=ERRORS)
    async def delete_run(request: Request, eval_id: str, run_id: str) -> Response:
        await run(runs.delete, context.owner_of(request), eval_id, run_id)
        return _json(DeletedRun(run_id=run_id))


def _add_output_items(api: FastAPI, context: PlatformContext, runs: RunStore) -> None:
    run = context.database.run
    path = "/v1/evals/{eval_id}/runs/{run_id}/output_items"

    @api.get(path, response_model=ObjectList[OutputItem], responses=ERRORS)
    async def list_output_items(request: Request, eval_id: str, run_id: str) -> Response:
        owner, query = context.owner_of(request), OutputItemQuery.parse(dict(request.query_params))
        objects, has_more = await run(runs.list_items, owner, eval_id, run_id, query)
        return _json(ObjectList[OutputItem].of(objects, has_more=has_more))

    @api.get(path + "/{item_id}", response_model=OutputItem, responses=ERRORS)
    async def retrieve_output_item(request: Request, eval_id: str, run_id: str, item_id: str) -> Response:
        owner = context.owner_of(request)
        return _json(await run(runs.retrieve_item, owner, eval_id, run_id, item_id))


def _with_url(request: Request, run: EvalRun) -> EvalRun:
    """The run with a whole URL, under the address that the client used."""
    return run.model_copy(update={"report_url": f"{str(request.base_url).rstrip('/')}{run.report_url}"})


def _idempotent(request: Request, owner: str, scope: str, content: object) -> IdempotentRequest:
    return IdempotentRequest(owner, scope, request.headers.get(HEADER, ""), content)


def _json(content: BaseModel, status_code: int = 200) -> Response:
    return JSONResponse(content.model_dump(), status_code=status_code)
