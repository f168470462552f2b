"""ModelCalls: a model's API by Python calls instead of HTTP, for the gateway.

Errors are returned as answers, never raised: an exception arrives wrapped at the other end of a Serve handle.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from serve_apps.answers.async_streams import SourceClosingStream, batch_texts
from serve_apps.api.call_origin import UNKNOWN_ORIGIN, CallOrigin
from serve_apps.api.chat import ChatService
from serve_apps.api.completions import CompletionService
from serve_apps.api.responses.service import ResponsesService
from serve_apps.api.responses.stored_responses import StoredResponses
from serve_apps.api.tokenization import TokenizationService
from serve_apps.engine_wrappers.token_charge import charge_tokens_to
from serve_apps.generation.served_model import ServedModel
from serve_apps.http_front.events import server_sent_events
from serve_apps.http_front.loop_turns import LoopTurns
from serve_apps.tracing.tracing import NO_TRACING, Tracing
from tuneyard.api.usage_counts import UsageCounts
from tuneyard.api.wire.chat_request import ChatCompletionRequest
from tuneyard.api.wire.completions import CompletionRequest
from tuneyard.api.wire.errors import error_body
from tuneyard.api.wire.responses.request import ResponsesRequest
from tuneyard.api.wire.tokenization import DetokenizeRequest, TokenizeRequest
from tuneyard.core.errors import RequestError

CHARGE_INTERVAL_S = 0.5
"""How often the tokens of an unfinished answer are reported to the gateway."""

MODEL_DEPLOYMENT = "ModelReplica"
"""Name of the Serve deployment whose replicas answer these calls."""

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/tokenize", "/detokenize")
"""The paths that can be called."""


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What a running application serves."""

    model_id: str
    version: str
    """Version of its checkpoint, `name/version`."""
    max_model_len: int
    created: int
    headers: dict[str, str]
    """HTTP headers that every answer of this model carries."""
    reference: str = ""
    """What its checkpoint was deployed by: an alias `name@alias`, a version or a location."""


@dataclass(frozen=True, slots=True)
class CallAnswer:
    """A whole answer, or the start of a stream, as HTTP status and JSON content."""

    status: int
    content: dict[str, Any] | None
    """None if the stream was started: events follow."""
    used: UsageCounts = field(default_factory=UsageCounts)
    """Tokens of prompt and answer to charge, beyond those reported before."""


@dataclass(frozen=True, slots=True)
class CallEvents:
    """Server-sent events of a stream, and the tokens to charge for them."""

    text: str
    """One or more whole events; "" if there are only tokens to report."""
    used: UsageCounts


class ModelCalls:
    """Answers requests given by path, JSON body and `owner`, the digest of the API key that stored responses go by."""

    def __init__(
        self,
        model: ServedModel,
        stored_responses: StoredResponses | None = None,
        ignored_tools: Collection[str] = (),
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._tracing = tracing
        self._chat = ChatService(model)
        self._responses = ResponsesService(model, self._chat, stored_responses or StoredResponses(None))
        self._ignored_tools = ignored_tools
        self._completions = CompletionService(model)
        self._turns = LoopTurns()
        self._tokenization = TokenizationService(model)

    async def complete(
        self, path: str, body: Any, owner: str = "", origin: CallOrigin = UNKNOWN_ORIGIN
    ) -> AsyncGenerator[CallAnswer | CallEvents, None]:
        """Gives the whole answer, as the last item.

        While the answer takes long, gives CallEvents without text, so that tokens are charged even if the client
        disconnects early. Closing the generator aborts the request.
        """
        count = _TokenCount()
        with origin.begin(self._tracing, path) as span:
            with charge_tokens_to(count.add), origin.working(span):
                answering = asyncio.create_task(self._answer(path, body, owner))
            try:
                while not (await asyncio.wait({answering}, timeout=CHARGE_INTERVAL_S))[0]:
                    yield CallEvents("", count.take())
                answer = answering.result()
                yield CallAnswer(200, answer.model_dump(), count.take())
            except RequestError as e:
                span.fail(type(e).__name__)
                yield CallAnswer(e.status_code, error_body(e), count.take())
            finally:
                answering.cancel()
                await asyncio.gather(answering, return_exceptions=True)

    async def stream(
        self, path: str, body: Any, owner: str = "", origin: CallOrigin = UNKNOWN_ORIGIN
    ) -> AsyncGenerator[CallAnswer | CallEvents, None]:
        """Gives first whether the request was accepted (200, no content) or the error; then the stream's events.

        Closing the generator aborts the request.
        """
        count = _TokenCount()
        with origin.begin(self._tracing, path) as span:
            try:
                with charge_tokens_to(count.add), origin.working(span):
                    chunks = await self._open_stream(path, body, owner)
            except RequestError as e:
                span.fail(type(e).__name__)
                yield CallAnswer(e.status_code, error_body(e), count.take())
                return
            # Closed also if this generator is closed before it reads the first event.
            async with contextlib.aclosing(chunks):
                yield CallAnswer(200, None)
                async with contextlib.aclosing(batch_texts(server_sent_events(chunks))) as texts:
                    async for text in texts:
                        yield CallEvents(text, count.take())

    async def _answer(self, path: str, body: Any, owner: str) -> BaseModel:
        await self._turns.wait()
        match path:
            case "/v1/chat/completions":
                return await self._chat.complete(ChatCompletionRequest.parse(body))
            case "/v1/completions":
                return await self._completions.complete(CompletionRequest.parse(body))
            case "/v1/responses":
                return await self._responses.complete(ResponsesRequest.parse(body, self._ignored_tools), owner)
            case "/tokenize":
                return await self._tokenization.tokenize(TokenizeRequest.parse(body))
            case "/detokenize":
                return await self._tokenization.detokenize(DetokenizeRequest.parse(body))
        raise RequestError(f"The path {path} does not exist.")

    async def _open_stream(self, path: str, body: Any, owner: str) -> SourceClosingStream[Any]:
        await self._turns.wait()
        if path == "/v1/responses":
            return await self._responses.open_stream(ResponsesRequest.parse(body, self._ignored_tools), owner)
        if path == "/v1/completions":
            return await self._completions.open_stream(CompletionRequest.parse(body))
        return await self._chat.open_stream(ChatCompletionRequest.parse(body))


class _TokenCount:
    """What was used since the last `take`."""

    def __init__(self) -> None:
        self._used = UsageCounts()

    def add(self, counts: UsageCounts) -> None:
        self._used += counts

    def take(self) -> UsageCounts:
        """Returns the counts and sets them to 0."""
        used, self._used = self._used, UsageCounts()
        return used
