"""Admission of a request: by its API key, and charged to that key until the answer has ended."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from serve_apps.engine_wrappers.token_charge import charge_tokens_to
from serve_apps.http_front.bodies import read_json
from serve_apps.http_front.events import ClosableStream, EventStreamResponse, server_sent_events
from serve_apps.keys.grant import Grant
from serve_apps.keys.key_gate import KeyGate
from serve_apps.keys.model_scope import hidden_model_error
from serve_apps.tracing.span import current_span
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.core.errors import ModelNotFoundError

DEFAULT_ANSWER_TOKENS = 1024
"""Tokens that are reserved for an answer whose request has no limit of its own."""

MAX_RESERVED = 2**31
"""The most tokens of an answer, and the most answers, that are reserved: JSON may hold numbers of thousands of digits,
which Python does not format in the message of an error."""

BYTES_PER_TOKEN = 4
"""Bytes of a request's body that are reserved as one token of its prompt: about what English text has."""


@contextlib.asynccontextmanager
async def admit_request(
    gate: KeyGate, request: Request, limits: HttpLimits, check_name: Callable[[str], None]
) -> AsyncIterator[Admission]:
    """Admits a request for the time of its answering, before its body is read; raises what KeyGate.admit raises.

    Inside the context, the engine's tokens are charged to the request's key. At its end the request no longer counts
    as running; a streamed answer counts until its stream ends. `check_name` raises ModelNotFoundError for a model that
    is not served here.
    """
    admission = Admission(await gate.admit(authorization_header(request)), request, limits, check_name)
    current_span().set("tuneyard.key.name", admission.grant.key_name)
    with charge_tokens_to(admission.grant.charge):
        try:
            yield admission
        except ModelNotFoundError as e:
            if admission.grant.is_restricted:  # e names the model that is served here
                raise hidden_model_error(admission.model) from e
            raise
        finally:
            if not admission.is_streaming:
                await admission.grant.close()


class Admission:
    """Reads the body of an admitted request and makes the response to it."""

    def __init__(self, grant: Grant, request: Request, limits: HttpLimits, check_name: Callable[[str], None]) -> None:
        self.grant = grant
        self.is_streaming = False
        self.model = ""
        """The model that the request names, once `reserve` was called."""
        self._request = request
        self._limits = limits
        self._check_name = check_name

    async def read_json(self) -> Any:
        """The decoded body. Raises what bodies.read_json raises."""
        return await read_json(self._request, self._limits)

    async def reserve(self, model: str, max_tokens: int | None = 0, choices: int = 1) -> None:
        """Checks that the key may use the model, and reserves the tokens of the body and of the answers.

        `max_tokens` is the limit of each answer; None if the request has none, 0 if there is no answer to generate.
        Raises ModelNotFoundError and RateLimitError.
        """
        self.model = model
        self.grant.check_model(model)
        self._check_name(model)  # before it is recorded: usage has a row for each name
        await reserve_tokens(self.grant, self._request, model, max_tokens, choices)

    def respond(self, content: BaseModel) -> Response:
        """The response with a whole answer."""
        return JSONResponse(content.model_dump(), headers=self.grant.headers())

    def stream(self, chunks: ClosableStream[Any]) -> Response:
        """The response with a streamed answer. Closes `chunks` when the stream ends or the client disconnects."""
        self.is_streaming = True

        async def close() -> None:
            try:
                await chunks.aclose()
            finally:
                await self.grant.close()

        return EventStreamResponse(
            server_sent_events(chunks),
            [close],
            self.grant.headers(),
            self._request.app.state.heartbeat_s,
        )


async def reserve_tokens(grant: Grant, request: Request, model: str, max_tokens: int | None, choices: int) -> None:
    """See Admission.reserve; for a request whose body was read by bodies.read_json, and whose model is checked."""
    tokens = reserved_tokens(request.state.body_bytes, max_tokens, choices)
    await grant.reserve(model, tokens, min(choices, MAX_RESERVED))


def reserved_tokens(body_bytes: int, max_tokens: int | None, choices: int) -> int:
    """The tokens to reserve for a request and its answers; see Admission.reserve."""
    answer = DEFAULT_ANSWER_TOKENS if max_tokens is None else min(max_tokens, MAX_RESERVED)
    return body_bytes // BYTES_PER_TOKEN + min(choices, MAX_RESERVED) * answer


def authorization_header(request: Request) -> str:
    """The request's Authorization header, "" if there is none."""
    return request.headers.get("Authorization", "")
