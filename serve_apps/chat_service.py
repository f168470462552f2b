"""OpenAI request -> codec -> engine -> codec -> OpenAI response. A plain class: no Ray, no HTTP."""

from __future__ import annotations

import contextlib
import datetime
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from serve_apps.inference_engine import EngineStats, GenerationRequest, InferenceEngine, SamplingParams, TokenChunk
from tuneyard.errors import EngineError, ModelNotFoundError, RequestError
from tuneyard.harmony import HarmonyCodec
from tuneyard.harmony_parser import ContentDelta, HarmonyStreamParser
from tuneyard.openai_api import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionRequest,
    Choice,
    ChunkChoice,
    CompletionTokensDetails,
    Delta,
    FinishReason,
    ModelCard,
    ModelList,
    RenderedPrompt,
    RenderRequest,
    ResponseMessage,
    Usage,
)


@dataclass(slots=True)
class _Answer:
    """One running answer: what identifies it and what has been counted so far."""

    id: str
    model: str
    prompt_token_ids: list[int]
    parser: HarmonyStreamParser
    include_usage: bool
    created: int = field(default_factory=lambda: int(time.time()))
    completion_tokens: int = 0
    finish_reason: FinishReason | None = None


class ChatService:
    """Serves one model. `system_fingerprint` tells clients when weights or prompt format change."""

    def __init__(self, engine: InferenceEngine, codec: HarmonyCodec, model_id: str, weights_digest: str) -> None:
        self._engine = engine
        self._codec = codec
        self._model_id = model_id
        self._created = int(time.time())
        self._fingerprint = f"fp_{weights_digest[:8]}{codec.fingerprint[:8]}"

    def models(self) -> ModelList:
        """What GET /v1/models answers."""
        card = ModelCard(id=self._model_id, created=self._created, max_model_len=self._engine.max_model_len)
        return ModelList(data=[card])

    async def check_health(self) -> EngineStats:
        """The engine's load. Raises EngineError when it cannot answer."""
        await self._engine.check_health()
        return self._engine.stats()

    async def complete(self, request: ChatCompletionRequest) -> ChatCompletion:
        """The whole answer at once. Raises RequestError for what the request gets wrong."""
        answer, generation = self._prepare(request)
        text = {"final": "", "reasoning": ""}
        async with contextlib.aclosing(self._engine.generate(generation)) as chunks:
            async for chunk in chunks:
                for delta in self._advance(answer, chunk):
                    text[_part(delta)] += delta.text
        message = ResponseMessage(content=text["final"], reasoning_content=text["reasoning"] or None)
        choice = Choice(
            message=message,
            finish_reason=_finished(answer),
            harmony_malformed=answer.parser.malformed,
        )
        return ChatCompletion(
            id=answer.id,
            created=answer.created,
            model=answer.model,
            system_fingerprint=self._fingerprint,
            choices=[choice],
            usage=_usage(answer),
        )

    async def open_stream(self, request: ChatCompletionRequest) -> AsyncIterator[ChatCompletionChunk]:
        """The answer in chunks. Waits for the engine's first tokens, so that whatever is wrong until
        then is raised here, where it can still become an HTTP status.

        Closing the iterator aborts the request in the engine.
        """
        answer, generation = self._prepare(request)
        chunks = self._engine.generate(generation)
        try:
            first = await anext(chunks)
        except StopAsyncIteration as e:
            raise EngineError("The engine ended without an answer.") from e
        except BaseException:
            await chunks.aclose()
            raise
        return self._stream(answer, first, chunks)

    async def _stream(
        self, answer: _Answer, first: TokenChunk, chunks: AsyncIterator[TokenChunk]
    ) -> AsyncIterator[ChatCompletionChunk]:
        async with contextlib.aclosing(chunks):  # type: ignore[type-var]
            yield self._chunk(answer, Delta(role="assistant", content=""))
            for delta in self._advance(answer, first):
                yield self._chunk(answer, _wire_delta(delta))
            async for chunk in chunks:
                for delta in self._advance(answer, chunk):
                    yield self._chunk(answer, _wire_delta(delta))
        yield self._chunk(answer, Delta(), finish_reason=_finished(answer))
        if answer.include_usage:
            last = self._chunk(answer, Delta())
            yield last.model_copy(update={"choices": [], "usage": _usage(answer)})

    def render(self, request: RenderRequest) -> RenderedPrompt:
        """The prompt that a completion of this request would start from, by the same code."""
        self._check_model(request)
        ids = self._render(request, request.today)
        return RenderedPrompt(
            model=self._model_id,
            prompt_token_ids=ids,
            text=self._codec.render_text(ids),
            codec_fingerprint=self._codec.fingerprint,
        )

    def _check_model(self, request: ChatCompletionRequest) -> None:
        if request.model != self._model_id:
            raise ModelNotFoundError(
                f"The model {request.model!r} does not exist here. Served: {self._model_id}.",
                param="model",
                code="model_not_found",
            )

    def _render(self, request: ChatCompletionRequest, today: datetime.date | None = None) -> list[int]:
        """The only place where a request becomes a prompt."""
        messages = [message.to_chat_message() for message in request.messages]
        return self._codec.render(messages, request.tools, request.reasoning_effort, today)

    def _prepare(self, request: ChatCompletionRequest) -> tuple[_Answer, GenerationRequest]:
        """Checks model and lengths, and renders the prompt."""
        self._check_model(request)
        if request.tools or any(m.role == "tool" or m.tool_calls for m in request.messages):
            raise RequestError("'tools' is not supported by this server.", param="tools", code="unsupported")
        prompt = self._render(request)
        room = self._engine.max_model_len - len(prompt)
        if room < 1:
            raise RequestError(
                f"The prompt has {len(prompt)} tokens; this model's context is {self._engine.max_model_len} tokens, "
                "the answer included. Shorten the messages.",
                param="messages",
                code="context_length_exceeded",
            )
        if request.token_limit is not None and request.token_limit > room:
            raise RequestError(
                f"max_tokens={request.token_limit} does not fit: the prompt has {len(prompt)} tokens, which leaves "
                f"{room} of this model's context of {self._engine.max_model_len}.",
                param="max_completion_tokens" if request.max_completion_tokens is not None else "max_tokens",
                code="context_length_exceeded",
            )
        sampling = SamplingParams(
            max_tokens=request.token_limit or room,
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
        )
        answer = _Answer(
            id=f"chatcmpl-{uuid.uuid4().hex}",
            model=self._model_id,
            prompt_token_ids=prompt,
            parser=self._codec.stream_parser(),
            include_usage=bool(request.stream_options and request.stream_options.include_usage),
        )
        return answer, GenerationRequest(answer.id, tuple(prompt), sampling, self._codec.stop_token_ids)

    def _advance(self, answer: _Answer, chunk: TokenChunk) -> list[ContentDelta]:
        """Counts and parses what the engine gave; merges neighbours, so that a chunk makes one delta per channel."""
        answer.completion_tokens += len(chunk.token_ids)
        deltas = answer.parser.feed(chunk.token_ids)
        if chunk.finish_reason is not None:
            deltas += answer.parser.finish()
            if chunk.finish_reason == "abort":
                raise EngineError("The request was aborted before its answer was complete.")
            answer.finish_reason = chunk.finish_reason
        return _merged(deltas)

    def _chunk(self, answer: _Answer, delta: Delta, finish_reason: FinishReason | None = None) -> ChatCompletionChunk:
        return ChatCompletionChunk(
            id=answer.id,
            created=answer.created,
            model=answer.model,
            system_fingerprint=self._fingerprint,
            choices=[ChunkChoice(delta=delta, finish_reason=finish_reason)],
        )


def _part(delta: ContentDelta) -> str:
    """Only the final channel is the answer: analysis and commentary never leak into it."""
    return "final" if delta.channel == "final" else "reasoning"


def _wire_delta(delta: ContentDelta) -> Delta:
    return Delta(content=delta.text) if _part(delta) == "final" else Delta(reasoning_content=delta.text)


def _merged(deltas: list[ContentDelta]) -> list[ContentDelta]:
    merged: list[ContentDelta] = []
    for delta in deltas:
        if merged and (merged[-1].channel, merged[-1].recipient) == (delta.channel, delta.recipient):
            merged[-1] = ContentDelta(delta.channel, delta.recipient, merged[-1].text + delta.text)
        else:
            merged.append(delta)
    return merged


def _finished(answer: _Answer) -> FinishReason:
    """The engine's reason; its contract says that there is one."""
    if answer.finish_reason is None:
        raise EngineError("The engine stopped without saying why: the answer may be incomplete.")
    return answer.finish_reason


def _usage(answer: _Answer) -> Usage:
    prompt = len(answer.prompt_token_ids)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=answer.completion_tokens,
        total_tokens=prompt + answer.completion_tokens,
        completion_tokens_details=CompletionTokensDetails(reasoning_tokens=answer.parser.reasoning_tokens),
    )
