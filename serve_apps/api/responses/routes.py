"""The routes of /v1/responses: those that a model answers, and those of stored responses, which need no model."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from serve_apps.api.openapi_document import ERRORS, STREAMED, request_body
from serve_apps.api.responses.service import ResponsesService
from serve_apps.api.responses.stored_responses import StoredResponses
from serve_apps.generation.served_model import ServedModel
from serve_apps.http_front.admission import admit_request, authorization_header
from serve_apps.keys.key_gate import KeyGate
from serve_apps.keys.model_scope import owner_digest
from serve_apps.tracing.span import current_span
from tuneyard.api.wire.responses.answer import DeletedResponse, ItemList
from tuneyard.api.wire.responses.answer import Response as ResponseObject
from tuneyard.api.wire.responses.queries import ItemPage, RetrieveQuery
from tuneyard.api.wire.responses.request import ResponsesRequest
from tuneyard.configs.http_limits import HttpLimits


def add_response_route(
    api: FastAPI,
    model: ServedModel,
    service: ResponsesService,
    ignored_tools: Collection[str],
    gate: KeyGate,
    limits: HttpLimits,
) -> None:
    """Adds the route that answers a request."""

    @api.post(
        "/v1/responses",
        response_model=ResponseObject,
        responses=STREAMED,
        openapi_extra=request_body(ResponsesRequest),
    )
    async def create_response(request: Request) -> Response:
        async with admit_request(gate, request, limits, model.check_name) as admission:
            parsed = ResponsesRequest.parse(await admission.read_json(), ignored_tools)
            await admission.reserve(parsed.model, parsed.max_output_tokens)
            if parsed.stream:
                return admission.stream(await service.open_stream(parsed, admission.grant.owner))
            return admission.respond(await service.complete(parsed, admission.grant.owner))


def add_stored_response_routes(api: FastAPI, stored: StoredResponses, gate: KeyGate) -> None:
    """Adds the routes of stored responses. A key sees only the responses that were made with it.

    They need a valid key and count against none of its limits: a key that is at one must still be able to cancel.
    """

    def owner_of(request: Request) -> str:
        key = gate.authenticate(authorization_header(request))
        current_span().set("tuneyard.key.name", key.name if key is not None else "")
        return owner_digest(key)

    @api.get("/v1/responses/{response_id}", response_model=ResponseObject, responses=ERRORS)
    async def retrieve_response(request: Request, response_id: str) -> Response:
        owner = owner_of(request)
        RetrieveQuery.parse(dict(request.query_params))
        return JSONResponse(await stored.retrieve(owner, response_id))

    @api.delete("/v1/responses/{response_id}", response_model=DeletedResponse, responses=ERRORS)
    async def delete_response(request: Request, response_id: str) -> Response:
        return JSONResponse((await stored.delete(owner_of(request), response_id)).model_dump())

    @api.post("/v1/responses/{response_id}/cancel", response_model=ResponseObject, responses=ERRORS)
    async def cancel_response(request: Request, response_id: str) -> Response:
        return JSONResponse(await stored.cancel(owner_of(request), response_id))

    @api.get(
        "/v1/responses/{response_id}/input_items",
        response_model=ItemList,
        responses=ERRORS,
        openapi_extra=_query_parameters(ItemPage),
    )
    async def list_input_items(request: Request, response_id: str) -> Response:
        owner, page = owner_of(request), ItemPage.parse(dict(request.query_params))
        return JSONResponse((await stored.list_input(owner, response_id, page)).model_dump())


def _query_parameters(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route whose query parameters are this model."""
    properties = model.model_json_schema()["properties"]
    return {"parameters": [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]}
