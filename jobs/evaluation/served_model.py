"""A served model, asked over OpenAI's chat API."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import openai
from tqdm import tqdm

from jobs.evaluation.scoring import Answer, Score, score_answers, score_sample
from tuneyard.chats.messages import ChatExample, request_fields
from tuneyard.core.errors import ConfigError, EngineError
from tuneyard.evaluation.samples import Sample

CONCURRENCY = 8
"""Requests in flight at a time."""

TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model and the base URL of the API that serves it."""

    model: str
    base_url: str

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """The endpoint in `MODEL=BASE_URL`. Raises ConfigError for any other text."""
        model, equals, url = text.partition("=")
        if not equals or not model or not url.startswith("http"):
            raise ConfigError(f"--model {text}: expected MODEL=BASE_URL, for example m=http://127.0.0.1:8000/v1")
        return cls(model, url)


def evaluate(endpoint: Endpoint, examples: Sequence[ChatExample], max_tokens: int) -> Score:
    """Asks the model the last prompt of every example and scores its answers.

    `max_tokens` limits each answer, reasoning included. Raises EngineError when the model does not answer.
    """
    return score_answers(endpoint.model, asyncio.run(_ask_all(endpoint, examples, max_tokens)))


async def _ask_all(endpoint: Endpoint, examples: Sequence[ChatExample], max_tokens: int) -> list[Answer]:
    limiter = asyncio.Semaphore(CONCURRENCY)
    api_key = os.environ.get("OPENAI_API_KEY") or "none"
    async with openai.AsyncOpenAI(
        base_url=endpoint.base_url, api_key=api_key, timeout=TIMEOUT_S, max_retries=2
    ) as client:
        with tqdm(total=len(examples), desc=endpoint.model, unit="q", disable=not sys.stderr.isatty()) as bar:

            async def ask(example: ChatExample) -> Answer:
                async with limiter:
                    answer = await _ask(client, endpoint, example, max_tokens)
                bar.update()
                return answer

            return list(await asyncio.gather(*(ask(example) for example in examples)))


async def _ask(client: openai.AsyncOpenAI, endpoint: Endpoint, example: ChatExample, max_tokens: int) -> Answer:
    request = request_fields(example.last_prompt, example.tools)
    try:
        completion = await client.chat.completions.create(
            model=endpoint.model, **request, temperature=0, max_tokens=max_tokens
        )
    except openai.OpenAIError as e:
        raise EngineError(f"{endpoint.model} at {endpoint.base_url} does not answer: {e}") from e
    return score_sample(example, Sample.from_completion(completion.model_dump()))
