"""ChargedCall: a call of a replica, whose tokens are charged to the request's key as the replica reports them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from serve_apps.api.model_calls import CallAnswer, CallEvents
from serve_apps.engine_wrappers.token_charge import Charge
from serve_apps.tracing.span import TraceSpan

logger = logging.getLogger(__name__)

CANCEL_TIMEOUT_S = 5.0
"""Seconds in which a replica must have ended a call that was cancelled."""


class ChargedCall:
    """The items of a call, in order. `items` is what Serve returns for a streaming call of a replica.

    `charge` is called with the tokens of each item.
    """

    def __init__(self, items: Any, charge: Charge, trace: TraceSpan) -> None:
        self._items = items
        self._charge = charge
        self._trace = trace
        self._reading: asyncio.Future[Any] | None = None
        self._has_ended = False

    def __aiter__(self) -> ChargedCall:
        return self

    async def __anext__(self) -> CallAnswer | CallEvents:
        """The next item, charged. Raises what Serve raises for a call that failed."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(anext(self._items))
        reading = self._reading
        try:
            # Shielded: an item that comes while the client leaves stays there for `cancel`.
            item: CallAnswer | CallEvents = await asyncio.shield(reading)
        except BaseException:
            if reading.cancelled() or (reading.done() and reading.exception() is not None):
                self._reading, self._has_ended = None, True
            raise
        self._reading = None
        self._charge(item.used)
        self._trace.add_tokens(item.used.prompt_tokens, item.used.completion_tokens)
        return item

    async def cancel(self) -> None:
        """Aborts the call in the replica, and charges what it reported before that, which a slow client has not read.

        Does nothing after the end of the call. Tokens that the replica had not reported, those of less than
        model_calls.CHARGE_INTERVAL_S, are not charged.
        """
        if self._has_ended:
            return
        self._items.cancel()
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                async for _ in self:
                    pass
        except TimeoutError:
            logger.warning("a replica did not end a cancelled call within %g s", CANCEL_TIMEOUT_S)
        except Exception as e:  # noqa: BLE001  # Serve's error for a cancelled call, or what ended the call before
            logger.debug("a cancelled call ended with %s", type(e).__name__)
        finally:
            if self._reading is not None:
                self._reading.cancel()
                self._reading.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._has_ended = True
