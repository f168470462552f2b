"""ModelCaller: chat completions for runs and graders, retried as their errors say."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from serve_apps.api.model_calls import CallAnswer
from serve_apps.gateway.owner_calls import OwnerCalls
from tuneyard.core.errors import EvaluationError, ModelNotFoundError, OverloadedError, QuotaError

CHAT_PATH = "/v1/chat/completions"

BUSY_DELAYS_S = (0.25, 0.5, 1.0, 2.0)
"""Pauses between attempts while the model has no idle capacity; the last one again and again."""

RETRY_DELAYS_S = (1.0, 2.0, 4.0, 8.0)
"""Pauses after errors that may pass: a replica that died, a model between two versions. Then the row is an error."""


class RunFailedError(EvaluationError):
    """No row of the run can succeed: its key or its model is gone. `code` and the message are those of the call."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message, "model")
        self.args = (message, code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Completion:
    """A chat completion and the request that it answers."""

    request: dict[str, Any]
    content: dict[str, Any]

    @property
    def usage(self) -> dict[str, int]:
        """Its tokens, by OpenAI's names in runs."""
        used = self.content["usage"]
        cached = (used.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        names = ("prompt_tokens", "completion_tokens", "total_tokens")
        return {name: used[name] for name in names} | {"cached_tokens": cached}


@dataclass(frozen=True, slots=True)
class ModelCaller:
    """Calls models for one owner. In the background: live requests come first."""

    calls: OwnerCalls
    owner: str
    is_background: bool = True
    completions: list[Completion] = field(default_factory=list)
    """All answers, in order; also those that turned out to be unusable."""

    async def complete(self, request: dict[str, Any], request_id: str = "") -> Completion:
        """The answer to a chat completion request. Waits while the model is busy.

        Raises EvaluationError if the model refuses this request or fails, RunFailedError if it would refuse any.
        """
        busy = failed = 0
        while True:
            answer = await self.calls.complete(
                self.owner, CHAT_PATH, request, request_id=request_id, is_background=self.is_background
            )
            if answer.status == 200 and answer.content is not None:
                self.completions.append(Completion(request, answer.content))
                return self.completions[-1]
            code, message = _error_of(answer)
            if answer.status == OverloadedError.status_code or (
                answer.status == QuotaError.status_code and code != "insufficient_quota"
            ):
                delay = BUSY_DELAYS_S[min(busy, len(BUSY_DELAYS_S) - 1)]
                busy += 1
            elif _may_pass(answer.status) and failed < len(RETRY_DELAYS_S):
                delay = RETRY_DELAYS_S[failed]
                failed += 1
            elif answer.status in (401, 404, 429):
                raise RunFailedError(message, code)
            else:
                raise EvaluationError(f"{request.get('model')}: {message}", "model")
            await asyncio.sleep(delay)


def _may_pass(status: int) -> bool:
    return status >= 500 or status == ModelNotFoundError.status_code


def _error_of(answer: CallAnswer) -> tuple[str, str]:
    """Code and message of an answer that is an error."""
    error = (answer.content or {}).get("error") or {}
    return str(error.get("code") or error.get("type") or "server_error"), str(error.get("message") or answer.status)
