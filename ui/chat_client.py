"""Client of OpenAI-compatible endpoints: lists models and streams answers as typed events. Imports no gradio."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

import openai
from openai.types.chat import ChatCompletionChunk

from ui.chat_errors import ChatError, explain_before_answer, explain_during_answer, not_an_endpoint

CONNECT_TIMEOUT_S = 5.0
LISTING_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 600.0
"""Longest wait for the next chunk of an answer: a CPU may need minutes for the first token of a long prompt."""


@dataclass(frozen=True)
class ServedModel:
    """A model and the endpoint that serves it."""

    model_id: str
    base_url: str

    @property
    def key(self) -> str:
        """Base URL and model id in one string, for a dropdown's value."""
        return f"{self.base_url} {self.model_id}"

    @classmethod
    def from_key(cls, key: str) -> ServedModel:
        base_url, _, model_id = key.partition(" ")
        return cls(model_id, base_url)


@dataclass(frozen=True)
class ModelListing:
    """The models served, in the order of the base URLs, and one sentence for each endpoint that failed."""

    models: tuple[ServedModel, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class ChatRequest:
    """One question with its history. With `max_tokens` None the server's limit applies."""

    model: ServedModel
    messages: Sequence[dict[str, str]]
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int | None = None
    reasoning_effort: str | None = None
    """None: the server uses the effort that the model was trained with."""


@dataclass(frozen=True)
class ReasoningDelta:
    """New text of the model's reasoning."""

    text: str


@dataclass(frozen=True)
class AnswerDelta:
    """New text of the answer."""

    text: str


@dataclass(frozen=True)
class AnswerDone:
    """The end of a complete stream. Token counts are None when the endpoint gave no usage."""

    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    first_token_s: float | None
    """Seconds from the request to the first text, reasoning included; None when no text came."""
    total_s: float

    @property
    def tokens_per_s(self) -> float | None:
        """Decoding speed, without the wait for the first token; None if it cannot be computed."""
        if self.completion_tokens is None or self.first_token_s is None or self.completion_tokens < 2:
            return None
        decoding_s = self.total_s - self.first_token_s
        return (self.completion_tokens - 1) / decoding_s if decoding_s > 0 else None


ChatEvent = ReasoningDelta | AnswerDelta | AnswerDone


class ChatClient:
    """Client of the given endpoints; refuses any other base URL.

    Use a client on one event loop only: it keeps connections open between requests.
    """

    def __init__(self, base_urls: Sequence[str], api_key: str = "none") -> None:
        timeout = openai.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        # No automatic retries: the person sees the error and decides.
        self._clients = {
            url: openai.AsyncOpenAI(base_url=url, api_key=api_key, timeout=timeout, max_retries=0)
            for url in dict.fromkeys(url.rstrip("/") for url in base_urls)
        }

    async def models(self) -> ModelListing:
        """Lists the models of every endpoint. An endpoint that fails becomes a sentence in `problems`, not an error."""
        results = await asyncio.gather(*map(self._models_of, self._clients), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, ChatError):
                raise result
        return ModelListing(
            models=tuple(model for found in results if not isinstance(found, BaseException) for model in found),
            problems=tuple(str(error) for error in results if isinstance(error, ChatError)),
        )

    async def _models_of(self, base_url: str) -> list[ServedModel]:
        timeout = openai.Timeout(LISTING_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        try:
            response = await self._clients[base_url].models.with_raw_response.list(timeout=timeout)
            entries = json.loads(response.text)["data"]
            return [ServedModel(str(entry["id"]), base_url) for entry in entries]
        except openai.APIError as e:
            raise explain_before_answer(e, base_url) from e
        except (ValueError, KeyError, TypeError) as e:
            raise not_an_endpoint(base_url) from e

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """Yields the answer's events in order; the last one is AnswerDone.

        Raises ChatError before the first event (the request got no answer) or between events (the
        stream broke). Closing the iterator, or cancelling the task that reads it, closes the HTTP
        stream, so that the server aborts the request.
        """
        base_url = request.model.base_url
        started = time.monotonic()
        try:
            chunks = await self._open(request)
        except openai.APIError as e:
            raise explain_before_answer(e, base_url) from e
        reader = _ChunkReader(started)
        async with chunks:
            try:
                async for chunk in chunks:
                    for event in reader.events_of(chunk):
                        yield event
            except (openai.APIError, json.JSONDecodeError) as e:
                raise explain_during_answer(e, base_url) from e
        yield reader.done(base_url)

    async def _open(self, request: ChatRequest) -> openai.AsyncStream[ChatCompletionChunk]:
        client = self._clients.get(request.model.base_url)
        if client is None:
            raise ChatError(f"{request.model.base_url}: this page was not started with that --base-url.")
        body: dict[str, Any] = {
            "model": request.model.model_id,
            "messages": list(request.messages),
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stream_options": {"include_usage": True},
        }
        if request.reasoning_effort is not None:
            body["reasoning_effort"] = request.reasoning_effort
        if request.max_tokens is not None:
            body["max_completion_tokens"] = request.max_tokens
        stream: openai.AsyncStream[ChatCompletionChunk] = await client.chat.completions.create(stream=True, **body)
        return stream

    async def aclose(self) -> None:
        """Closes all open connections."""
        for client in self._clients.values():
            await client.close()


class _ChunkReader:
    """Converts chunks to events and collects what AnswerDone reports: usage, finish reason, times."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._first_text: float | None = None
        self._finish_reason: str | None = None
        self._usage: Any = None
        self._last_chunk = started

    def events_of(self, chunk: ChatCompletionChunk) -> list[ChatEvent]:
        self._usage = chunk.usage or self._usage
        self._last_chunk = time.monotonic()
        events: list[ChatEvent] = []
        for choice in chunk.choices[:1]:
            self._finish_reason = choice.finish_reason or self._finish_reason
            # Not in OpenAI's schema: DeepSeek's field, which most open servers use.
            if reasoning := getattr(choice.delta, "reasoning_content", None):
                events.append(ReasoningDelta(reasoning))
            if choice.delta.content:
                events.append(AnswerDelta(choice.delta.content))
        if events and self._first_text is None:
            self._first_text = self._last_chunk
        return events

    def done(self, base_url: str) -> AnswerDone:
        if self._finish_reason is None:
            raise explain_during_answer(None, base_url)
        return AnswerDone(
            finish_reason=self._finish_reason,
            prompt_tokens=self._usage.prompt_tokens if self._usage else None,
            completion_tokens=self._usage.completion_tokens if self._usage else None,
            first_token_s=None if self._first_text is None else self._first_text - self._started,
            total_s=self._last_chunk - self._started,
        )
