"""CompletionService: answers text completions, whole or streamed. Knows neither HTTP nor Ray."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import TypeAlias

from serve_apps.answers.async_streams import SourceClosingStream, read_first
from serve_apps.answers.engine_stream import stream_pieces
from serve_apps.answers.text_answer import EchoedPrompt, TextAnswer, append_piece
from serve_apps.answers.usage import count_usage
from serve_apps.engines.engine import GenerationRequest
from serve_apps.generation.engine_requests import build_engine_requests
from serve_apps.generation.prompt import decode_tokens, encode_text
from serve_apps.generation.served_model import ServedModel
from tuneyard.api.wire.completions import Completion, CompletionChoice, CompletionRequest
from tuneyard.api.wire.usage import Usage
from tuneyard.core.errors import RequestError

_Pieces: TypeAlias = AsyncGenerator[CompletionChoice | None, None]


@dataclass(slots=True)
class _RunningCompletion:
    """A request that is being answered, with its OpenAI id and creation time."""

    request: CompletionRequest
    prompt_tokens: int
    answers: list[TextAnswer]
    engine_requests: list[GenerationRequest]
    id: str = field(default_factory=lambda: f"cmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def usage(self) -> Usage:
        return count_usage(self.prompt_tokens, self.answers)


class CompletionService:
    """POST /v1/completions for one model: continues a text or token ids, without a chat."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model

    async def complete(self, request: CompletionRequest) -> Completion:
        """Returns the whole text. Raises RequestError if the request cannot be answered, EngineError if it fails."""
        running = await self._prepare(request)
        choices = [CompletionChoice(index=answer.index, text="") for answer in running.answers]
        async with contextlib.aclosing(self._pieces(running)) as pieces:
            async for piece in pieces:
                if piece is not None:
                    append_piece(choices[piece.index], piece)
        return self._completion(running, *choices, usage=running.usage())

    async def open_stream(self, request: CompletionRequest) -> SourceClosingStream[Completion]:
        """Returns the text in pieces, as soon as the engine has accepted the request.

        What the request is refused for is raised here, where it can still become an HTTP status. Closing the returned
        stream aborts the request in the engine.
        """
        running = await self._prepare(request)
        pieces = self._pieces(running)
        first = await read_first(pieces)
        return SourceClosingStream(self._steps(running, first, pieces), pieces)

    async def _prepare(self, request: CompletionRequest) -> _RunningCompletion:
        """Checks the request and encodes its prompts; the engine starts with the first read of `_pieces`."""
        self._model.check_name(request.model)
        answers: list[TextAnswer] = []
        engine_requests: list[GenerationRequest] = []
        prompt_tokens = 0
        for prompt in request.prompts:
            ids = prompt if isinstance(prompt, list) else await encode_text(self._model, prompt)
            prompt_tokens += len(ids)
            engine_requests += build_engine_requests(
                self._model,
                request,
                ids,
                prompt_field="prompt",
                logprobs=request.logprobs,
                prompt_logprobs=request.logprobs if request.echo else None,
            )
            echo = None
            if request.echo:
                text = prompt if isinstance(prompt, str) else await decode_tokens(self._model, ids, "prompt")
                echo = EchoedPrompt(text, ids)
            answers += [
                TextAnswer(
                    self._model.codec,
                    len(answers) + number,
                    request.stop,
                    has_logprobs=request.logprobs is not None,
                    echo=echo,
                )
                for number in range(request.n)
            ]
        return _RunningCompletion(request, prompt_tokens, answers, engine_requests)

    async def _pieces(self, running: _RunningCompletion) -> _Pieces:
        """See stream_pieces; names `echo` as the field at fault where the engine cannot score a prompt."""
        try:
            async with contextlib.aclosing(
                stream_pieces(self._model.engine, running.engine_requests, running.answers)
            ) as pieces:
                async for piece in pieces:
                    yield piece
        except RequestError as e:
            if e.param != "prompt_logprobs":
                raise
            message = e.message.replace("'prompt_logprobs'", "echo with logprobs")
            raise RequestError(message, param="echo", code=e.code) from e

    async def _steps(
        self, running: _RunningCompletion, first: CompletionChoice | None, rest: _Pieces
    ) -> AsyncGenerator[Completion, None]:
        """One Completion per piece; last the usage, on request."""
        async with contextlib.aclosing(rest):
            if first is not None:
                yield self._completion(running, first)
            async for piece in rest:
                if piece is not None:
                    yield self._completion(running, piece)
        if _includes_usage(running.request):
            yield self._completion(running, usage=running.usage())

    def _completion(
        self, running: _RunningCompletion, *choices: CompletionChoice, usage: Usage | None = None
    ) -> Completion:
        return Completion(
            id=running.id,
            created=running.created,
            model=self._model.model_id,
            system_fingerprint=self._model.system_fingerprint,
            choices=list(choices),
            **({"usage": usage} if usage is not None or _includes_usage(running.request) else {}),
        )


def _includes_usage(request: CompletionRequest) -> bool:
    return request.stream_options is not None and request.stream_options.include_usage
