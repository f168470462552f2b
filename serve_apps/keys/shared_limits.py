"""SharedLimits: a key's requests and tokens per minute, counted for all replicas together in Redis.

The counting is that of the package `limits`. Requests have a moving window: no 60 seconds hold more than the limit.
Tokens have fixed windows, of a minute and of an hour with 60 times the limit: one request may take more than a minute's
tokens, and the hour holds it to the average.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from serve_apps.keys.account import rate_limit_error
from serve_apps.keys.metrics import KeyMetrics
from serve_apps.keys.shared_counts import Reservation, SharedCount, TokenClaim
from tuneyard.api.api_keys import ApiKey

TIMEOUT_S = 0.5
"""How long a request waits for Redis. After that, and until Redis answers again, no request waits for it."""

PROBE_INTERVAL_S = 1.0
"""How often a Redis that does not answer is tried again."""

SETTLE_INTERVAL_S = 1.0
"""How often the tokens of running requests are counted that were not reserved."""

KEY_PREFIX = "tuneyard"

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


class SharedLimits:
    """The limits that keys have in all replicas together. `now` gives Unix time.

    Where Redis does not answer, methods return None: the caller's own limits then decide alone. It is tried again in
    the background while `running` is open.
    """

    def __init__(
        self, url: str, password: str | None, metrics: KeyMetrics, now: Callable[[], float] = time.time
    ) -> None:
        options = {"password": password} if password is not None else {}
        self._storage = RedisStorage(
            f"async+{url}",
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix=KEY_PREFIX,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            # Once more at once: a connection of the pool may have been closed by a server that was restarted.
            retry=Retry(NoBackoff(), 1),  # type: ignore[arg-type]  # passed on to the Redis client, which takes it
            **options,
        )
        bridge: Any = self._storage.bridge  # the package has no call that closes its connections
        self._client = bridge.get_connection()
        self._requests = MovingWindowRateLimiter(self._storage)
        self._metrics = metrics
        self._now = now
        self._is_up = True
        self._unsettled: dict[tuple[str, int], int] = {}
        metrics.set_shared_limits_up(True)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Counts late tokens and looks for a Redis that answers again, while the context is open."""
        worker = asyncio.create_task(self._keep_working())
        try:
            yield
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
            await self.settle()
            await self._client.aclose()

    async def take_request(self, key: ApiKey) -> SharedCount | None:
        """Counts one request. Raises RateLimitError if the key has none left; it is then not counted."""
        if (limit := key.requests_per_minute) is None:
            return None
        item = RateLimitItemPerMinute(limit)

        async def take() -> tuple[bool, SharedCount]:
            is_taken = await self._requests.hit(item, "requests", key.id)
            stats = await self._requests.get_window_stats(item, "requests", key.id)
            return is_taken, SharedCount(stats.remaining, max(0.0, stats.reset_time - self._now()))

        if (taken := await self._attempt(take)) is None:
            return None
        is_taken, count = taken
        if not is_taken:
            raise rate_limit_error(
                f"This key used {limit - count.remaining:,} requests, on all replicas together; its limit is {limit:,} "
                "per minute.",
                count.reset_s,
            )
        return count

    async def reserve(self, key: ApiKey, tokens: int) -> TokenClaim | None:
        """Reserves tokens, of each window at most its limit.

        Raises RateLimitError if no token is left that is neither used nor reserved.
        """
        if (limit := key.tokens_per_minute) is None:
            return None
        claim = TokenClaim()
        try:
            is_reserved = await self._reserve_windows(claim, key, limit, tokens)
        except BaseException:  # also if the client has left
            self.release(claim)
            raise
        if not is_reserved:
            self.release(claim)
        return claim if is_reserved else None

    async def _reserve_windows(self, claim: TokenClaim, key: ApiKey, limit: int, tokens: int) -> bool:
        """Adds the reservations to the claim. Returns False if Redis does not answer."""
        for item, unit in ((RateLimitItemPerMinute(limit), "minute"), (RateLimitItemPerHour(60 * limit), "hour")):
            # A client may ask for any number of tokens. Redis would fail for one of more than 64 bits, which would
            # count as a Redis that does not answer, for all keys.
            amount = min(tokens, item.amount)
            reserved = await self._attempt(
                lambda item=item, amount=amount: self._reserve(item, key, amount)  # type: ignore[misc]
            )
            if reserved is None:
                return False
            reservation, total = reserved
            claim.reservations.append(reservation)
            before = total - amount
            if before >= item.amount:
                self.release(claim)
                await self.settle()
                raise rate_limit_error(
                    f"This key used {before:,} tokens on all replicas together, those included that are reserved for "
                    f"its running requests; its limit is {item.amount:,} per {unit}.",
                    reservation.ends_at - self._now(),
                )
            if unit == "minute":
                claim.left = SharedCount(max(0, limit - total), max(0.0, reservation.ends_at - self._now()))
        return True

    async def _reserve(self, item: RateLimitItem, key: ApiKey, tokens: int) -> tuple[Reservation, int]:
        name = item.key_for("tokens", key.id)
        total = await self._storage.incr(name, item.get_expiry(), tokens)
        ends_at = await self._storage.get_expiry(name)
        return Reservation(name, item.get_expiry(), tokens, ends_at), total

    def charge(self, claim: TokenClaim, tokens: int) -> None:
        """Counts tokens as used, in the reservation's window, or in the current one if that has ended."""
        now = self._now()
        for reservation in claim.reservations:
            if now < reservation.ends_at:
                reservation.used += tokens
            else:
                self._owe(reservation, tokens)

    def release(self, claim: TokenClaim) -> None:
        """Gives back what was reserved and not used, with the next `settle`. A further call does nothing."""
        now = self._now()
        for reservation in claim.reservations:
            if now < reservation.ends_at:
                self._owe(reservation, reservation.used - reservation.tokens)
        claim.reservations.clear()

    async def settle(self) -> None:
        """Counts in Redis what was charged and given back meanwhile. After an error it is dropped."""

        async def settle_one(name: str, expiry_s: int, tokens: int) -> None:
            total = await self._storage.incr(name, expiry_s, tokens)
            if total < 0:  # the window ended meanwhile
                await self._storage.incr(name, expiry_s, -total)

        # One by one: if this task is cancelled, because a client has left, the others' counts stay.
        for place in list(self._unsettled):
            if tokens := self._unsettled.pop(place, 0):
                await self._attempt(lambda of=(*place, tokens): settle_one(*of))  # type: ignore[misc]

    def _owe(self, reservation: Reservation, tokens: int) -> None:
        place = (reservation.name, reservation.expiry_s)
        self._unsettled[place] = self._unsettled.get(place, 0) + tokens

    async def _attempt(self, operation: Callable[[], Awaitable[Result]]) -> Result | None:
        """The operation's result; None if Redis does not answer."""
        if not self._is_up:
            self._metrics.local_limits.inc()
            return None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await operation()
        except (StorageError, TimeoutError) as e:
            self._metrics.local_limits.inc()
            if self._is_up:
                logger.warning(
                    "Redis does not answer (%s): until it does, each replica holds API keys to their limits by itself",
                    _reason(e),
                )
            self._set_up(False)
            return None

    async def _keep_working(self) -> None:
        while True:
            await asyncio.sleep(SETTLE_INTERVAL_S if self._is_up else PROBE_INTERVAL_S)
            if self._is_up:
                await self.settle()
            elif await self._answers():
                logger.warning("Redis answers again: the limits of API keys are shared")
                self._set_up(True)

    async def _answers(self) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT_S):
                return await self._storage.check()
        return False

    def _set_up(self, is_up: bool) -> None:
        self._is_up = is_up
        self._metrics.set_shared_limits_up(is_up)


def _reason(error: Exception) -> str:
    """The kind of the error that Redis's client raised; its text may hold an address."""
    cause = error.storage_error if isinstance(error, StorageError) else error
    return type(cause).__name__
