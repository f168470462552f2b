"""Charging: the tokens of a request are counted for the API key that it was admitted with."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from contextvars import ContextVar
from typing import TypeAlias

from serve_apps.engine_wrappers.wrapper import EngineWrapper
from serve_apps.engines.engine import GenerationRequest, TokenChunk
from tuneyard.api.usage_counts import UsageCounts

Charge: TypeAlias = Callable[[UsageCounts], None]
"""Called with the tokens to charge."""

_CHARGE: ContextVar[Charge | None] = ContextVar("charge", default=None)


@contextlib.contextmanager
def charge_tokens_to(charge: Charge) -> Iterator[None]:
    """Requests to a ChargedEngine that start inside this context are charged to `charge`."""
    token = _CHARGE.set(charge)
    try:
        yield
    finally:
        _CHARGE.reset(token)


def current_charge() -> Charge:
    """Charges to the request of this context, also after the context has ended; to nobody outside of one."""
    return _CHARGE.get() or _charge_nobody


def _charge_nobody(_: UsageCounts) -> None:
    pass


class ChargedEngine(EngineWrapper):
    """Charges each request's tokens as the engine makes them: the prompt's with the first token, then each chunk's.

    Nothing is charged for a request that was started outside of `charge_tokens_to`.
    """

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenChunk, None]:
        charge = current_charge()
        uncharged_prompt = billed_prompt_tokens(request)
        async with contextlib.aclosing(self._engine.generate(request)) as chunks:
            async for chunk in chunks:
                if chunk.token_ids:
                    cached = min(chunk.cached_prompt_tokens, uncharged_prompt)
                    charge(UsageCounts(0, uncharged_prompt, cached, len(chunk.token_ids)))
                    uncharged_prompt = 0
                yield chunk


def billed_prompt_tokens(request: GenerationRequest) -> int:
    """The prompt tokens to bill for this request: 0 if another choice of the same answer is billed for them."""
    return 0 if request.shares_prompt else len(request.prompt_token_ids)
