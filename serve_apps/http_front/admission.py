"""Admission of a request: by its API key, and charged to that key until the answer has ended."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from serve_apps.engine_wrappers.token_charge import charge_tokens_to
from serve_apps.http_front.events import ClosableStream, EventStreamResponse, server_sent_events
from serve_apps.http_front.key_gate import Grant, KeyGate


@contextlib.contextmanager
def admit_request(gate: KeyGate, request: Request, model: str) -> Iterator[Admission]:
    """Admits a request for the time of its answering; raises what KeyGate.admit raises.

    Inside the context, the engine's tokens are charged to the request's key. At its end the request no longer counts
    as running; a streamed answer counts until its stream ends.
    """
    admission = Admission(gate.admit(authorization_header(request), model))
    with charge_tokens_to(admission.grant.charge):
        try:
            yield admission
        finally:
            if not admission.is_streaming:
                admission.grant.close()


class Admission:
    """Makes the response to an admitted request."""

    def __init__(self, grant: Grant) -> None:
        self.grant = grant
        self.is_streaming = False

    def respond(self, content: BaseModel) -> Response:
        """The response with a whole answer."""
        return JSONResponse(content.model_dump(), headers=self.grant.headers())

    def stream(self, chunks: ClosableStream[Any]) -> Response:
        """The response with a streamed answer. Closes `chunks` when the stream ends or the client disconnects."""
        self.is_streaming = True
        return EventStreamResponse(server_sent_events(chunks), [self.grant.close, chunks.aclose], self.grant.headers())


def authorization_header(request: Request) -> str:
    """The request's Authorization header, "" if there is none."""
    return request.headers.get("Authorization", "")
