"""ChatService: answers chat completions, whole or streamed. Knows neither HTTP nor Ray."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from serve_apps.answers.assembled_message import AssembledMessage
from serve_apps.answers.async_streams import SourceClosingStream, read_first
from serve_apps.answers.chat_answer import ChatAnswer, ChatPiece, PieceKind
from serve_apps.answers.engine_stream import final_finish_reason, stream_pieces
from serve_apps.answers.repeated_chunk import RepeatedChunk
from serve_apps.answers.usage import count_usage
from serve_apps.engines.engine import GenerationRequest
from serve_apps.generation.engine_requests import build_engine_requests
from serve_apps.generation.grammar_choice import blame_tools, choose_grammar
from serve_apps.generation.prompt import render_prompt
from serve_apps.generation.served_model import ServedModel
from tuneyard.api.wire.chat_answer import (
    ChatCompletion,
    ChatCompletionChunk,
    Choice,
    ChunkChoice,
    Delta,
    Logprobs,
    RenderedPrompt,
)
from tuneyard.api.wire.chat_request import ChatCompletionRequest, RenderRequest
from tuneyard.api.wire.usage import Usage
from tuneyard.core.errors import RequestError


@dataclass(slots=True)
class RunningChat:
    """A request that is being answered, with its OpenAI id and creation time."""

    request: ChatCompletionRequest
    prompt_tokens: int
    answers: list[ChatAnswer]
    engine_requests: list[GenerationRequest]
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def usage(self) -> Usage:
        return count_usage(self.prompt_tokens, self.answers)


class ChatService:
    """POST /v1/chat/completions, and its /render, for one model."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model

    async def complete(self, request: ChatCompletionRequest) -> ChatCompletion:
        """Returns the whole answer. Raises RequestError if the request cannot be answered, EngineError if it fails."""
        chat = await self.prepare(request)
        messages = [AssembledMessage() for _ in chat.answers]
        async with contextlib.aclosing(self.pieces(chat)) as pieces:
            async for piece in pieces:
                if piece is not None:
                    messages[piece.index].add(piece)
        choices = [
            Choice(
                index=answer.index,
                message=message.message(),
                finish_reason=final_finish_reason(answer),
                logprobs=message.logprobs() if request.logprobs else None,
                harmony_malformed=answer.is_malformed,
            )
            for answer, message in zip(chat.answers, messages, strict=True)
        ]
        return ChatCompletion(
            id=chat.id,
            created=chat.created,
            model=self._model.model_id,
            system_fingerprint=self._model.system_fingerprint,
            choices=choices,
            usage=chat.usage(),
        )

    async def open_stream(self, request: ChatCompletionRequest) -> SourceClosingStream[ChatCompletionChunk | str]:
        """Returns the answer in chunks, as soon as the engine has accepted the request. A text is a chunk's JSON.

        What the request is refused for is raised here, where it can still become an HTTP status. Closing the returned
        stream aborts the request in the engine.
        """
        chat = await self.prepare(request)
        pieces = self.pieces(chat)
        first = await read_first(pieces)
        return SourceClosingStream(self._chunks(chat, first, pieces), pieces)

    async def render(self, request: RenderRequest) -> RenderedPrompt:
        """The prompt that a completion of this request would start from."""
        self._model.check_name(request.model)
        ids = await render_prompt(self._model, request.messages, request.tools, request.reasoning_effort, request.today)
        return RenderedPrompt(
            model=self._model.model_id,
            prompt_token_ids=ids,
            text=self._model.codec.render_text(ids),
            codec_fingerprint=self._model.codec.fingerprint,
        )

    async def prepare(self, request: ChatCompletionRequest) -> RunningChat:
        """Checks the request and renders its prompt; the engine starts with the first read of `pieces`."""
        self._model.check_name(request.model)
        prompt = await render_prompt(self._model, request.messages, request.tools, request.reasoning_effort)
        engine_requests = build_engine_requests(
            self._model,
            request,
            prompt,
            prompt_field="messages",
            logprobs=request.top_logprobs if request.logprobs else None,
            grammar=choose_grammar(request),
        )
        answers = [ChatAnswer(self._model.codec, index, request.stop) for index in range(request.n)]
        return RunningChat(request, len(prompt), answers, engine_requests)

    async def pieces(self, chat: RunningChat) -> AsyncGenerator[ChatPiece | None, None]:
        """See stream_pieces; names the tool at fault where the engine refused its schema."""
        try:
            async with contextlib.aclosing(
                stream_pieces(self._model.engine, chat.engine_requests, chat.answers)
            ) as pieces:
                async for piece in pieces:
                    yield piece
        except RequestError as e:
            raise blame_tools(e, chat.request, chat.engine_requests[0].grammar) from e

    async def _chunks(
        self, chat: RunningChat, first: ChatPiece | None, rest: AsyncGenerator[ChatPiece | None, None]
    ) -> AsyncGenerator[ChatCompletionChunk | str, None]:
        """Per choice: a chunk with the role, its pieces, a chunk with the finish reason; last the usage, on request."""
        roles = [
            self._chunk(chat, ChunkChoice(index=answer.index, delta=Delta(role="assistant", content="")))
            for answer in chat.answers
        ]
        encode = _PieceEncoder(lambda piece: self._chunk(chat, _chunk_choice(piece))).encode
        async with contextlib.aclosing(rest):
            if first is not None:
                for chunk in roles:
                    yield chunk
                yield encode(first)
                roles = []
            async for piece in rest:
                # With the first token, and not before: clients measure the time to the first chunk.
                for chunk in roles:
                    yield chunk
                roles = []
                if piece is not None:
                    yield encode(piece)
        for answer in chat.answers:
            end = ChunkChoice(
                index=answer.index,
                delta=Delta(),
                finish_reason=final_finish_reason(answer),
                harmony_malformed=answer.is_malformed,
            )
            yield self._chunk(chat, end)
        if _includes_usage(chat.request):
            yield self._chunk(chat, usage=chat.usage())

    def _chunk(self, chat: RunningChat, *choices: ChunkChoice, usage: Usage | None = None) -> ChatCompletionChunk:
        return ChatCompletionChunk(
            id=chat.id,
            created=chat.created,
            model=self._model.model_id,
            system_fingerprint=self._model.system_fingerprint,
            choices=list(choices),
            **({"usage": usage} if _includes_usage(chat.request) else {}),
        )


def _includes_usage(request: ChatCompletionRequest) -> bool:
    return request.stream_options is not None and request.stream_options.include_usage


def _chunk_choice(piece: ChatPiece) -> ChunkChoice:
    return ChunkChoice(
        index=piece.index,
        delta=piece.delta(),
        logprobs=Logprobs(content=piece.logprobs) if piece.logprobs else None,
    )


class _PieceEncoder:
    """The pieces of one answer as chunks: as JSON, unless they have more than their text."""

    def __init__(self, make_chunk: Callable[[ChatPiece], ChatCompletionChunk]) -> None:
        self._make_chunk = make_chunk
        self._repeated: dict[tuple[int, PieceKind], RepeatedChunk] = {}

    def encode(self, piece: ChatPiece) -> ChatCompletionChunk | str:
        index, kind = piece.index, piece.kind
        if piece.logprobs or kind == "call":
            return self._make_chunk(piece)
        repeated = self._repeated.get((index, kind))
        if repeated is None:
            repeated = RepeatedChunk(lambda text: self._make_chunk(ChatPiece(index, kind, text)))
            self._repeated[index, kind] = repeated
        return repeated.json(piece.text)
