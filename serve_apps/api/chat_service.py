"""OpenAI request -> codec -> engine -> codec -> OpenAI response. A plain class: no Ray, no HTTP."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import logging
import re
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from serve_apps.api.answer import Answer, Piece, Whole
from serve_apps.engines.engine import EngineStats, GenerationRequest, InferenceEngine, SamplingParams
from serve_apps.http_front.async_streams import Bound, merge
from tuneyard.api.requests import (
    ChatCompletionRequest,
    CompletionRequest,
    RenderRequest,
    RequestMessage,
    SamplingRequest,
)
from tuneyard.api.responses import (
    ChatCompletion,
    ChatCompletionChunk,
    Choice,
    ChunkChoice,
    CompletionTokensDetails,
    Delta,
    Logprobs,
    ModelCard,
    ModelList,
    RenderedPrompt,
    Usage,
)
from tuneyard.chats.messages import ChatTool, message_order_problem
from tuneyard.core.errors import EngineError, ModelNotFoundError, RequestError
from tuneyard.harmony.answer_grammar import answer_grammar
from tuneyard.harmony.codec import HarmonyCodec, ReasoningEffort

logger = logging.getLogger(__name__)

LONGEST_TOKEN = 128
"""Characters; o200k's longest is a run of blanks."""

MAX_RUN = 16_384
_LONG_RUN = re.compile(rf"[^\W\d_]{{{MAX_RUN},}}|[^\w\s]{{{MAX_RUN},}}|\s{{{MAX_RUN},}}")

_Step = tuple[Answer, Piece | None]


@dataclass(slots=True)
class _Running:
    """A request that is being answered, and what identifies it."""

    request: ChatCompletionRequest
    prompt_tokens: int
    answers: list[Answer]
    generations: list[GenerationRequest]
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def usage(self) -> Usage:
        """Exact counts of the engine's tokens, over all choices."""
        completion = sum(answer.tokens for answer in self.answers)
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=completion,
            total_tokens=self.prompt_tokens + completion,
            completion_tokens_details=CompletionTokensDetails(
                reasoning_tokens=sum(answer.reasoning_tokens for answer in self.answers)
            ),
        )


class ChatService:
    """Serves one model. `system_fingerprint` tells clients when weights or prompt format change."""

    def __init__(self, engine: InferenceEngine, codec: HarmonyCodec, model_id: str, weights_digest: str) -> None:
        self._engine = engine
        self._codec = codec
        self._model_id = model_id
        self._created = int(time.time())
        self.fingerprint = f"fp_{weights_digest[:8]}{codec.fingerprint[:8]}"

    @property
    def engine(self) -> InferenceEngine:
        return self._engine

    @property
    def codec(self) -> HarmonyCodec:
        return self._codec

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
        running = self._prepare(request)
        whole = [Whole() for _ in running.answers]
        async with contextlib.aclosing(self._pieces(running)) as pieces:
            async for answer, piece in pieces:
                if piece is not None:
                    whole[answer.index].add(piece)
        choices = [
            Choice(
                index=answer.index,
                message=parts.message(),
                finish_reason=_finished(answer),
                logprobs=parts.logprobs() if request.logprobs else None,
                harmony_malformed=answer.malformed,
            )
            for answer, parts in zip(running.answers, whole, strict=True)
        ]
        return ChatCompletion(
            id=running.id,
            created=running.created,
            model=self._model_id,
            system_fingerprint=self.fingerprint,
            choices=choices,
            usage=running.usage(),
        )

    async def open_stream(self, request: ChatCompletionRequest) -> AsyncIterator[ChatCompletionChunk]:
        """The answer in chunks. Waits for the engine's first tokens, so that whatever is wrong until
        then is raised here, where it can still become an HTTP status.

        Closing the iterator aborts the request in the engine.
        """
        running = self._prepare(request)
        pieces = self._pieces(running)
        try:
            first = await anext(pieces)
        except StopAsyncIteration as e:
            raise EngineError("The engine ended without an answer.") from e
        except BaseException:
            await pieces.aclose()
            raise
        return Bound(self._stream(running, first, pieces), pieces)

    async def _stream(
        self, running: _Running, first: _Step, pieces: AsyncGenerator[_Step, None]
    ) -> AsyncGenerator[ChatCompletionChunk, None]:
        async with contextlib.aclosing(pieces):
            for answer in running.answers:
                yield self._chunk(running, answer, Piece(Delta(role="assistant", content="")))
            async for answer, piece in _with_first(first, pieces):
                if piece is not None:
                    yield self._chunk(running, answer, piece)
        for answer in running.answers:
            yield self._chunk(running, answer, Piece(Delta()), ends=True)
        if running.request.stream_options and running.request.stream_options.include_usage:
            last = self._chunk(running, running.answers[0], Piece(Delta()))
            yield last.model_copy(update={"choices": [], "usage": running.usage()})

    async def _pieces(self, running: _Running) -> AsyncGenerator[_Step, None]:
        """What each choice adds, as it comes; None for a chunk that shows nothing, such as a message's header."""
        streams = [
            self._of_one(answer, generation)
            for answer, generation in zip(running.answers, running.generations, strict=True)
        ]
        merged = streams[0] if len(streams) == 1 else merge(streams)
        try:
            async with contextlib.aclosing(merged):
                async for item in merged:
                    yield item
        except RequestError as e:
            raise _named_after(running.request, e) from e

    async def _of_one(self, answer: Answer, generation: GenerationRequest) -> AsyncGenerator[_Step, None]:
        """Ends, and with it the engine's work, once the answer has ended: a stop string may do that."""
        async with contextlib.aclosing(self._engine.generate(generation)) as chunks:
            async for chunk in chunks:
                for piece in answer.advance(chunk) or (None,):
                    yield answer, piece
                if answer.ended and chunk.finish_reason is None:
                    # A stop string: the engine ends it as its own doing, and not as a client's that left.
                    await self._engine.abort(generation.request_id)
                    async for _ in chunks:
                        pass
        _finished(answer)

    def render(self, request: RenderRequest) -> RenderedPrompt:
        """The prompt that a completion of this request would start from, by the same code."""
        self.check_model(request.model)
        ids = self._render(request, request.today)
        return RenderedPrompt(
            model=self._model_id,
            prompt_token_ids=ids,
            text=self._codec.render_text(ids),
            codec_fingerprint=self._codec.fingerprint,
        )

    def check_model(self, model: str) -> None:
        """Raises ModelNotFoundError for another model than the one that is served."""
        if model != self._model_id:
            raise ModelNotFoundError(
                f"The model {model!r} does not exist here. Served: {self._model_id}.",
                param="model",
                code="model_not_found",
            )

    def _render(self, request: ChatCompletionRequest, today: datetime.date | None = None) -> list[int]:
        return self.render_messages(request.messages, request.tools, request.reasoning_effort, today)

    def render_messages(
        self,
        messages: Sequence[RequestMessage],
        tools: Sequence[ChatTool],
        effort: ReasoningEffort | None,
        today: datetime.date | None = None,
    ) -> list[int]:
        """The only place where a request becomes a prompt. Raises RequestError for what cannot be one."""
        chats = [message.to_chat_message() for message in messages]
        check_text([chat.content + (chat.reasoning_content or "") for chat in chats], self._engine.max_model_len)
        problem = message_order_problem([message.role for message in messages], for_completion=True)
        if problem is not None:
            raise RequestError(f"The messages are out of order: {problem}.", param="messages")
        try:
            return self._codec.render(chats, tools, effort, today)
        except Exception as e:
            # Harmony refuses some of what JSON allows, such as parameters nested without end.
            # Of the log only the kind: an error's text may hold the chat's.
            logger.info("harmony refuses a chat: %s", type(e).__name__)
            raise RequestError(f"This cannot be rendered: {e}.", param="tools" if tools else "messages") from e

    def _prepare(self, request: ChatCompletionRequest) -> _Running:
        """Checks model and lengths, and renders the prompt."""
        self.check_model(request.model)
        prompt = self._render(request)
        sampling = sampling_params(request, prompt, self._engine.max_model_len, "messages")
        grammar = _grammar(request)
        alternatives = request.top_logprobs if request.logprobs else None
        answers = [Answer(self._codec, index, request.stop) for index in range(request.n)]
        generations = [
            GenerationRequest(
                uuid.uuid4().hex,
                tuple(prompt),
                each,
                self._codec.stop_token_ids,
                logprobs=alternatives,
                grammar=grammar,
                shares_prompt=index > 0,
            )
            for index, each in enumerate(per_choice(sampling, request.n))
        ]
        return _Running(request, len(prompt), answers, generations)

    def _chunk(self, running: _Running, answer: Answer, piece: Piece, *, ends: bool = False) -> ChatCompletionChunk:
        choice = ChunkChoice(
            index=answer.index,
            delta=piece.delta,
            finish_reason=_finished(answer) if ends else None,
            logprobs=Logprobs(content=piece.logprobs) if piece.logprobs else None,
        )
        return ChatCompletionChunk(
            id=running.id,
            created=running.created,
            model=self._model_id,
            system_fingerprint=self.fingerprint,
            choices=[choice],
        )


def check_text(texts: Sequence[str], context: int) -> None:
    """Refuses text that cannot fit, and words so long that encoding one would take seconds: its cost grows with the
    square of a run. Raises RequestError.
    """
    if sum(map(len, texts)) > context * LONGEST_TOKEN:
        raise RequestError(
            f"The text is longer than this model's context of {context} tokens can be.",
            param="messages",
            code="context_length_exceeded",
        )
    for text in texts:
        if (found := _LONG_RUN.search(text)) is not None:
            raise RequestError(
                f"The text has {found[0][:8]!r}… of more than {MAX_RUN} characters in one piece. Break it up.",
                param="messages",
            )


def sampling_params(request: SamplingRequest, prompt: list[int], context: int, param: str) -> SamplingParams:
    """What the engine is asked for. Raises RequestError when prompt and limit do not fit the context."""
    room = context - len(prompt)
    if room < 1:
        raise RequestError(
            f"The prompt has {len(prompt)} tokens; this model's context is {context} tokens, the answer included. "
            "Shorten it.",
            param=param,
            code="context_length_exceeded",
        )
    limit = request.token_limit
    if isinstance(request, CompletionRequest) and "max_tokens" not in request.model_fields_set:
        limit = min(limit or room, room)  # OpenAI's default, which nobody asked for here
    if limit is not None and limit > room:
        name = "max_completion_tokens" if getattr(request, "max_completion_tokens", None) else "max_tokens"
        raise RequestError(
            f"{name}={limit} does not fit: the prompt has {len(prompt)} tokens, which leaves {room} of this model's "
            f"context of {context}.",
            param=name,
            code="context_length_exceeded",
        )
    return SamplingParams(
        max_tokens=limit or room,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        min_p=request.min_p,
        seed=request.seed,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        repetition_penalty=request.repetition_penalty,
        logit_bias=tuple(sorted(request.logit_bias.items())),
    )


def per_choice(sampling: SamplingParams, count: int) -> list[SamplingParams]:
    """One for each choice: with a seed, each its own, or all choices would be the same."""
    if sampling.seed is None:
        return [sampling] * count
    return [dataclasses.replace(sampling, seed=sampling.seed + index) for index in range(count)]


def _grammar(request: ChatCompletionRequest) -> str | None:
    """What the answer is held to: a schema, or tools' parameters; None when there is neither."""
    schema, tools = request.schema_of_answer, request.callable_tools()
    if not tools:
        # Declared tools that may not be called: only a grammar keeps the model from it.
        return answer_grammar(ending="answer", schema=schema) if schema is not None or request.tools else None
    must_call = request.tool_choice not in ("auto", "none")
    return answer_grammar(tools, ending="call" if must_call else "either", schema=schema)


def _named_after(request: ChatCompletionRequest, error: RequestError) -> RequestError:
    """The engine knows a grammar only as response_format; here it may be the tools'."""
    if error.param != "response_format" or request.response_format is not None:
        return error
    text = error.message.replace("'response_format'", "'tools'")
    return RequestError(text, param="tools", code=error.code)


async def _with_first(first: _Step, rest: AsyncIterator[_Step]) -> AsyncIterator[_Step]:
    yield first
    async for item in rest:
        yield item


def _finished(answer: Answer) -> Any:
    """The engine's reason; its contract says that there is one."""
    if answer.finish_reason is None:
        raise EngineError("The engine stopped without saying why: the answer may be incomplete.")
    return answer.finish_reason
