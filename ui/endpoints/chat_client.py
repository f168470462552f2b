"""Client of OpenAI-compatible endpoints: lists models and streams answers as typed events. Imports no gradio."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping, Sequence

import openai
from openai.types.chat import ChatCompletionChunk

from ui.endpoints.chat_errors import ChatError, explain_before_answer, explain_during_answer, not_an_endpoint
from ui.endpoints.chat_events import AnsweredBy, ChatEvent, Lineage
from ui.endpoints.chat_request import ChatRequest
from ui.endpoints.chunk_reader import ChunkReader
from ui.endpoints.served_models import ModelListing, ServedModel

CONNECT_TIMEOUT_S = 5.0
LISTING_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 600.0
"""Longest wait for the next chunk of an answer: a CPU may need minutes for the first token of a long prompt."""


class ChatClient:
    """Client of the given endpoints; refuses any other base URL.

    Methods take the key of the person for whom they call; None means the shared key given here. Use a client on one
    event loop only: it keeps connections open between requests.
    """

    def __init__(self, base_urls: Sequence[str], api_key: str = "none") -> None:
        timeout = openai.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        # No automatic retries: the person sees the error and decides.
        self._clients = {
            url: openai.AsyncOpenAI(base_url=url, api_key=api_key, timeout=timeout, max_retries=0)
            for url in dict.fromkeys(url.rstrip("/") for url in base_urls)
        }

    @property
    def base_urls(self) -> tuple[str, ...]:
        """The endpoints, in their order."""
        return tuple(self._clients)

    def load(self) -> None:
        """Imports what the first request would import, which takes a second; call it before the first visitor comes."""
        for client in self._clients.values():
            _ = client.chat.completions, client.models

    def client_of(self, base_url: str, key: str | None = None) -> openai.AsyncOpenAI:
        """The openai client of an endpoint, with a person's key. Raises ChatError for another base URL."""
        client = self._clients.get(base_url)
        if client is None:
            raise ChatError(f"{base_url}: this page was not started with that --base-url.")
        return client if key is None else client.with_options(api_key=key)

    async def models(self, key: str | None = None) -> ModelListing:
        """Lists the models of every endpoint. An endpoint that fails becomes a sentence in `problems`, not an error."""
        results = await asyncio.gather(*(self.models_of(url, key) for url in self._clients), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, ChatError):
                raise result
        return ModelListing(
            models=tuple(model for found in results if not isinstance(found, BaseException) for model in found),
            problems=tuple(str(error) for error in results if isinstance(error, ChatError)),
        )

    async def models_of(self, base_url: str, key: str | None = None) -> list[ServedModel]:
        """Lists the models of one endpoint. Raises ChatError when it cannot."""
        timeout = openai.Timeout(LISTING_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        try:
            response = await self.client_of(base_url, key).models.with_raw_response.list(timeout=timeout)
            entries = json.loads(response.text)["data"]
            return [ServedModel(str(entry["id"]), base_url) for entry in entries]
        except openai.APIError as e:
            raise explain_before_answer(e, base_url, is_own_key=key is not None) from e
        except (ValueError, KeyError, TypeError) as e:
            raise not_an_endpoint(base_url) from e

    async def stream(self, request: ChatRequest, key: str | None = None) -> AsyncGenerator[ChatEvent, None]:
        """Yields the answer's events in order; the first one is AnsweredBy, the last one AnswerDone.

        Raises ChatError before the first event (the request got no answer) or between events (the
        stream broke). Closing the iterator, or cancelling the task that reads it, closes the HTTP
        stream, so that the server aborts the request.
        """
        base_url = request.model.base_url
        client = self.client_of(base_url, key)
        started = time.monotonic()
        try:
            chunks: openai.AsyncStream[ChatCompletionChunk] = await client.chat.completions.create(**request.body())
        except openai.APIError as e:
            raise explain_before_answer(e, base_url, is_own_key=key is not None) from e
        reader = ChunkReader(started)
        async with chunks:
            yield AnsweredBy(lineage_of(chunks.response.headers))
            try:
                async for chunk in chunks:
                    for event in reader.events_of(chunk):
                        yield event
            except (openai.APIError, json.JSONDecodeError) as e:
                raise explain_during_answer(e, base_url) from e
        yield reader.done(base_url)

    async def aclose(self) -> None:
        """Closes all open connections."""
        for client in self._clients.values():
            await client.close()


def lineage_of(headers: Mapping[str, str]) -> Lineage:
    """The lineage that a Tuneyard server sends with each answer."""
    return Lineage(
        version=headers.get("x-tuneyard-model-version"),
        run=headers.get("x-tuneyard-run"),
        dataset=headers.get("x-tuneyard-dataset"),
        weights=headers.get("x-tuneyard-weights"),
    )
