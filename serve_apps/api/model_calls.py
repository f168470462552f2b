"""A model's API over calls instead of HTTP: what a replica answers to the gateway.

Errors are answers, never exceptions: what crosses a Serve handle as an exception arrives wrapped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from serve_apps.api.chat_service import ChatService
from serve_apps.api.completion_service import CompletionService
from serve_apps.http_front.async_streams import gathered
from serve_apps.http_front.http_plumbing import server_sent_events
from serve_apps.metrics.measured_engine import CHARGE
from tuneyard.api.requests import (
    ChatCompletionRequest,
    CompletionRequest,
    DetokenizeRequest,
    TokenizeRequest,
    error_body,
)
from tuneyard.core.errors import RequestError

CHARGE_EVERY_S = 0.5

PATHS = ("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize")


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What a running application serves. `version` is that of its checkpoint, `name/version`."""

    model_id: str
    version: str
    max_model_len: int
    created: int
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Answered:
    """A whole answer, or the beginning of a stream, as HTTP has it. `tokens` of prompt and answer, to be charged."""

    status: int
    content: dict[str, Any] | None
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Events:
    """Server-sent events of a stream, as text, and the tokens that they cost."""

    text: str
    tokens: int


class ModelCalls:
    """Answers requests by path and JSON body."""

    def __init__(self, service: ChatService) -> None:
        self._chats = service
        self._texts = CompletionService(service)

    async def whole(self, path: str, body: Any) -> AsyncIterator[Answered | Events]:
        """The answer at once, at the end. Before it, when it takes long, what it has cost so far, as events without
        text: who leaves early is charged too. Closing it aborts the request.
        """
        counted = _Counter()
        token = CHARGE.set(counted)
        try:
            answering = asyncio.create_task(self._answer(path, body))
        finally:
            CHARGE.reset(token)
        try:
            while not (await asyncio.wait({answering}, timeout=CHARGE_EVERY_S))[0]:
                yield Events("", counted.take())
            answer = answering.result()
            yield Answered(200, answer.model_dump(), counted.take())
        except RequestError as e:
            yield Answered(e.status_code, error_body(e), counted.take())
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)

    async def streamed(self, path: str, body: Any) -> AsyncIterator[Answered | Events]:
        """First whether it was taken (200, no content) or why not; then events. Closing it aborts the request."""
        counted = _Counter()
        token = CHARGE.set(counted)
        try:
            chunks = await self._open(path, body)
        except RequestError as e:
            yield Answered(e.status_code, error_body(e), counted.take())
            return
        finally:
            CHARGE.reset(token)
        yield Answered(200, None)
        async with contextlib.aclosing(gathered(server_sent_events(chunks))) as texts:
            async for text in texts:
                yield Events(text, counted.take())

    async def _answer(self, path: str, body: Any) -> Any:
        match path:
            case "/v1/chat/completions":
                return await self._chats.complete(ChatCompletionRequest.parse(body))
            case "/v1/completions":
                return await self._texts.complete(CompletionRequest.parse(body))
            case "/tokenize":
                return self._texts.tokenize(TokenizeRequest.parse(body))
            case "/detokenize":
                return self._texts.detokenize(DetokenizeRequest.parse(body))
        raise RequestError(f"{path}: no such path.")

    async def _open(self, path: str, body: Any) -> AsyncIterator[Any]:
        if path == "/v1/completions":
            return await self._texts.open_stream(CompletionRequest.parse(body))
        return await self._chats.open_stream(ChatCompletionRequest.parse(body))


class _Counter:
    """Tokens since the last look."""

    def __init__(self) -> None:
        self._tokens = 0

    def __call__(self, tokens: int) -> None:
        self._tokens += tokens

    def take(self) -> int:
        taken, self._tokens = self._tokens, 0
        return taken
