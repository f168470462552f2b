"""A served model as lm_eval asks it: over /v1/chat/completions, or over /v1/completions."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI

from jobs.evaluation.served_model import CONCURRENCY, TIMEOUT_S, Endpoint
from jobs.evaluation.tasks.scores import Form
from tuneyard.core.errors import EngineError

CONTEXT_TOKENS = 131_072
"""GPT-OSS's context length, for a server that does not tell the model's. It refuses what is too long for it."""

MAX_REASON_CHARACTERS = 500
"""How much is shown of an error that is not in OpenAI's form, such as the page of a proxy."""


class ServedModel:
    """A model behind an endpoint. `tokenizer` is the folder with its tokenizer, which scoring needs."""

    def __init__(self, endpoint: Endpoint, tokenizer: Path | None, max_tokens: int) -> None:
        self.name = endpoint.model
        self._endpoint = endpoint
        self._url = endpoint.base_url.rstrip("/")
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens

    def open(self, form: Form, *, scores_texts: bool) -> Any:
        """lm_eval's model object. Asks the model once, as its tasks will.

        `scores_texts`: log-probabilities of given texts will be asked for. Raises EngineError when the model does not
        answer, or cannot give them.
        """
        context_tokens = self._try(form, scores_texts=scores_texts)
        common: dict[str, Any] = {
            "model": self.name,
            "num_concurrent": CONCURRENCY,
            "timeout": TIMEOUT_S,
            "max_gen_toks": self._max_tokens,
            "max_length": context_tokens,
        }
        if form == "chat":
            return ServedChats(base_url=f"{self._url}/chat/completions", **common)
        has_tokenizer = self._tokenizer is not None
        return ServedTexts(
            base_url=f"{self._url}/completions",
            tokenizer=str(self._tokenizer) if has_tokenizer else None,
            tokenizer_backend="huggingface" if has_tokenizer else None,
            tokenized_requests=has_tokenizer,
            **common,
        )

    def _try(self, form: Form, *, scores_texts: bool) -> int:
        """Sends one short request, so that a wrong address, key or model is reported as such, and at once.

        Returns the model's context length in tokens.
        """
        api_key = os.environ.get("OPENAI_API_KEY") or "none"
        try:
            with openai.OpenAI(base_url=self._url, api_key=api_key, timeout=TIMEOUT_S, max_retries=2) as client:
                if form == "chat":
                    client.chat.completions.create(
                        model=self.name, messages=[{"role": "user", "content": "Hello"}], max_tokens=1
                    )
                elif scores_texts:
                    client.completions.create(model=self.name, prompt="Hello", max_tokens=1, echo=True, logprobs=1)
                else:
                    client.completions.create(model=self.name, prompt="Hello", max_tokens=1)
                card = client.models.retrieve(self.name)
        except openai.APIStatusError as e:
            task = "score texts" if scores_texts else "be asked"
            raise EngineError(f"{self.name} at {self._endpoint.base_url} cannot {task}: {e}") from e
        except openai.OpenAIError as e:
            raise EngineError(f"{self.name} at {self._endpoint.base_url} does not answer: {e}") from e
        return int((card.model_extra or {}).get("max_model_len") or CONTEXT_TOKENS)


class ServedChats(LocalChatCompletion):
    """lm_eval's client of /v1/chat/completions; a request that fails raises EngineError with the API's reason."""

    async def amodel_call(self, session: aiohttp.ClientSession, *args: Any, **kwargs: Any) -> Any:
        return await super().amodel_call(_ReasonedSession(session, self.model), *args, **kwargs)


class ServedTexts(LocalCompletionsAPI):
    """lm_eval's client of /v1/completions; a request that fails raises EngineError with the API's reason."""

    async def amodel_call(self, session: aiohttp.ClientSession, *args: Any, **kwargs: Any) -> Any:
        return await super().amodel_call(_ReasonedSession(session, self.model), *args, **kwargs)


class _ReasonedSession:
    """The part of aiohttp's session that lm_eval uses. lm_eval keeps of an error only its status and phrase."""

    def __init__(self, session: aiohttp.ClientSession, model: str) -> None:
        self._session = session
        self._model = model

    @contextlib.asynccontextmanager
    async def post(self, url: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self._session.post(url, **options) as response:
            if not response.ok:
                reason = _reason(await response.text(errors="replace"))
                raise EngineError(f"{self._model} at {url} refused a request: {response.status} - {reason}")
            yield response


def _reason(body: str) -> str:
    """The message of an error in OpenAI's form; of any other, its beginning."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:MAX_REASON_CHARACTERS]
