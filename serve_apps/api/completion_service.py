"""Text completions and tokens: what is below chats. Shares engine and codec with the chat service."""

from __future__ import annotations

import codecs
import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

from serve_apps.api.answer import StopStrings
from serve_apps.api.chat_service import ChatService, check_text, per_choice, sampling_params
from serve_apps.engines.engine import GenerationRequest, TokenLogprob
from serve_apps.http_front.async_streams import Bound, merge
from tuneyard.api.requests import CompletionRequest, DetokenizeRequest, TokenizeRequest
from tuneyard.api.responses import (
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    CompletionTokensDetails,
    Detokenized,
    FinishReason,
    Tokenized,
    Usage,
)
from tuneyard.core.errors import EngineError, RequestError


@dataclass(frozen=True, slots=True)
class _Entry:
    """A token's log-probability, and where its text begins."""

    offset: int
    text: str
    logprob: float
    top: dict[str, float]


@dataclass(slots=True)
class _Choice:
    """One running choice. `waiting`: log-probabilities of text that a stop string may yet take away."""

    index: int
    text: StopStrings
    tokens: int = 0
    finish_reason: FinishReason | None = None
    waiting: list[_Entry] = field(default_factory=list)
    decoder: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))


class CompletionService:
    """POST /v1/completions, /tokenize and /detokenize for the model of a ChatService."""

    def __init__(self, chats: ChatService) -> None:
        self._chats = chats
        self._engine = chats.engine
        self._codec = chats.codec

    async def complete(self, request: CompletionRequest) -> Completion:
        """The whole text at once. Raises RequestError for what the request gets wrong."""
        steps = self._start(request)
        kept: dict[int, CompletionChoice] = {}
        usage = None
        async with contextlib.aclosing(steps):
            async for step in steps:
                usage = step.usage or usage
                for choice in step.choices:
                    whole = kept.setdefault(choice.index, CompletionChoice(index=choice.index, text=""))
                    whole.text += choice.text
                    whole.finish_reason = choice.finish_reason or whole.finish_reason
                    whole.logprobs = _joined(whole.logprobs, choice.logprobs)
        step.choices = [kept[index] for index in sorted(kept)]
        step.usage = usage
        return step

    async def open_stream(self, request: CompletionRequest) -> AsyncIterator[Completion]:
        """The text in pieces; what is wrong until the engine's first tokens is raised here."""
        steps = self._start(request)
        try:
            first = await anext(steps)
        except BaseException:
            await steps.aclose()
            raise
        include_usage = bool(request.stream_options and request.stream_options.include_usage)
        return Bound(_shown(first, steps, include_usage), steps)

    def tokenize(self, request: TokenizeRequest) -> Tokenized:
        """Ids of a text, or of the prompt that a chat becomes."""
        self._chats.check_model(request.model)
        if request.messages is not None:
            ids = self._chats.render_messages(request.messages, request.tools, request.reasoning_effort)
        else:
            ids = self._encode(request.prompt or "")
        return Tokenized(tokens=ids, count=len(ids), max_model_len=self._engine.max_model_len)

    def detokenize(self, request: DetokenizeRequest) -> Detokenized:
        """The text of ids, special tokens spelled out."""
        self._chats.check_model(request.model)
        unknown = [token for token in request.tokens if not 0 <= token < self._codec.vocabulary_size]
        if unknown:
            raise RequestError(
                f"There is no token {unknown[0]}; the tokenizer knows 0 to {self._codec.vocabulary_size - 1}.",
                param="tokens",
            )
        return Detokenized(prompt=self._codec.render_text(request.tokens))

    def _encode(self, text: str) -> list[int]:
        check_text([text], self._engine.max_model_len)
        return self._codec.encode_text(text)

    async def _start(self, request: CompletionRequest) -> AsyncGenerator[Completion, None]:
        """Pieces of all choices, as they come; the last one carries the usage and shows nothing."""
        self._chats.check_model(request.model)
        prompt = request.prompt if isinstance(request.prompt, list) else self._encode(request.prompt)
        sampling = sampling_params(request, prompt, self._engine.max_model_len, "prompt")
        choices = [_Choice(index, StopStrings(request.stop)) for index in range(request.n)]
        identity = (f"cmpl-{uuid.uuid4().hex}", int(time.time()))
        streams = []
        for choice, each in zip(choices, per_choice(sampling, request.n), strict=True):
            asked = GenerationRequest(
                uuid.uuid4().hex,
                tuple(prompt),
                each,
                self._codec.stop_token_ids,
                logprobs=request.logprobs,
                shares_prompt=choice.index > 0,
            )
            streams.append(self._of_one(choice, asked))
        async with contextlib.aclosing(merge(streams)) as merged:
            async for piece in merged:
                yield self._completion(request, identity, [piece])
        tokens = sum(choice.tokens for choice in choices)
        last = self._completion(request, identity, [])
        last.usage = Usage(
            prompt_tokens=len(prompt),
            completion_tokens=tokens,
            total_tokens=len(prompt) + tokens,
            completion_tokens_details=CompletionTokensDetails(reasoning_tokens=0),
        )
        yield last

    async def _of_one(self, choice: _Choice, asked: GenerationRequest) -> AsyncGenerator[CompletionChoice, None]:
        async with contextlib.aclosing(self._engine.generate(asked)) as chunks:
            async for chunk in chunks:
                choice.tokens += len(chunk.token_ids)
                if asked.logprobs is not None:
                    choice.waiting += self._entries(chunk.logprobs, choice.text.seen)
                data = b"".join(self._codec.plain_bytes(token) for token in chunk.token_ids)
                text = choice.text.feed(choice.decoder.decode(data, final=chunk.finish_reason is not None))
                if chunk.finish_reason == "abort":
                    raise EngineError("The request was aborted before its answer was complete.")
                if choice.text.stopped:
                    choice.finish_reason = "stop"
                elif chunk.finish_reason is not None:
                    text += choice.text.flush()
                    choice.finish_reason = chunk.finish_reason
                yield CompletionChoice(
                    index=choice.index,
                    text=text,
                    finish_reason=choice.finish_reason,
                    logprobs=_taken(choice) if asked.logprobs is not None else None,
                )
                if choice.finish_reason is not None:
                    if chunk.finish_reason is None:
                        await self._engine.abort(asked.request_id)
                        async for _ in chunks:
                            pass
                    return
        raise EngineError("The engine stopped without saying why: the answer may be incomplete.")

    def _entries(self, found: tuple[TokenLogprob, ...], offset: int) -> list[_Entry]:
        entries = []
        for entry in found:
            text, _ = self._codec.token_text(entry.token_id)
            top = {self._codec.token_text(token)[0]: value for token, value in entry.top}
            entries.append(_Entry(offset, text, entry.logprob, top))
            offset += len(self._codec.plain_bytes(entry.token_id).decode(errors="replace"))
        return entries

    def _completion(
        self, request: CompletionRequest, identity: tuple[str, int], choices: list[CompletionChoice]
    ) -> Completion:
        return Completion(
            id=identity[0],
            created=identity[1],
            model=request.model,
            system_fingerprint=self._chats.fingerprint,
            choices=choices,
        )


def _taken(choice: _Choice) -> CompletionLogprobs:
    """The log-probabilities of text that is out, in OpenAI's older form."""
    is_over = choice.finish_reason is not None and not choice.text.stopped
    out = [entry for entry in choice.waiting if is_over or entry.offset < choice.text.shown]
    choice.waiting = choice.waiting[len(out) :]
    return CompletionLogprobs(
        tokens=[entry.text for entry in out],
        token_logprobs=[entry.logprob for entry in out],
        top_logprobs=[entry.top for entry in out],
        text_offset=[entry.offset for entry in out],
    )


async def _shown(
    first: Completion, rest: AsyncGenerator[Completion, None], include_usage: bool
) -> AsyncGenerator[Completion, None]:
    async with contextlib.aclosing(rest):
        yield first
        async for step in rest:
            if step.choices or include_usage:
                yield step


def _joined(kept: CompletionLogprobs | None, more: CompletionLogprobs | None) -> CompletionLogprobs | None:
    if kept is None or more is None:
        return more or kept
    return CompletionLogprobs(
        tokens=kept.tokens + more.tokens,
        token_logprobs=kept.token_logprobs + more.token_logprobs,
        top_logprobs=kept.top_logprobs + more.top_logprobs,
        text_offset=kept.text_offset + more.text_offset,
    )
