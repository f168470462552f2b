"""Who may ask what, and how much: API keys and their limits, kept in this process. OpenAI's errors and headers."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tuneyard.api.api_keys import ApiKey, KeyStore
from tuneyard.core.errors import AuthenticationError, PermissionDeniedError, RateLimitError


@dataclass(slots=True)
class _Bucket:
    """A limit per minute, refilled evenly; what is taken may be more than is there, and is then waited for."""

    per_minute: int
    now: Callable[[], float]
    level: float = field(init=False)
    filled_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.level, self.filled_at = float(self.per_minute), self.now()

    def refill(self) -> float:
        """The level now."""
        now = self.now()
        self.level = min(self.per_minute, self.level + (now - self.filled_at) * self.per_minute / 60)
        self.filled_at = now
        return self.level

    def wait_s(self, amount: float) -> float:
        """Seconds until `amount` is there."""
        return max(0.0, (amount - self.refill()) * 60 / self.per_minute)


@dataclass(slots=True)
class _Use:
    """What a key has used."""

    requests: _Bucket | None
    tokens: _Bucket | None
    running: int = 0


class Grant:
    """Leave to answer one request. `charge` its tokens as they come; `close` it at its end, once."""

    def __init__(self, use: _Use | None) -> None:
        self._use = use
        self._is_open = True

    def charge(self, tokens: int) -> None:
        """Counts tokens of prompt and answer."""
        if self._use is not None and self._use.tokens is not None:
            self._use.tokens.refill()
            self._use.tokens.level -= tokens

    def close(self) -> None:
        """The request has ended."""
        if self._use is not None and self._is_open:
            self._use.running -= 1
        self._is_open = False

    def headers(self) -> dict[str, str]:
        """OpenAI's rate-limit headers."""
        found = {}
        for name, bucket in (
            ("requests", self._use and self._use.requests),
            ("tokens", self._use and self._use.tokens),
        ):
            if bucket:
                found[f"x-ratelimit-limit-{name}"] = str(bucket.per_minute)
                found[f"x-ratelimit-remaining-{name}"] = str(max(0, math.floor(bucket.refill())))
                found[f"x-ratelimit-reset-{name}"] = f"{bucket.wait_s(bucket.per_minute):.3f}s"
        return found


class KeyGate:
    """Lets requests in. Without a store every request is let in, and nothing is counted."""

    def __init__(self, store: KeyStore | None, now: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._now = now
        self._uses: dict[str, _Use] = {}

    def check(self, authorization: str) -> ApiKey | None:
        """The key of an Authorization header. Raises AuthenticationError."""
        if self._store is None:
            return None
        scheme, _, secret = authorization.partition(" ")
        key = self._store.find(secret.strip()) if scheme.lower() == "bearer" and secret.strip() else None
        if key is None:
            raise AuthenticationError(
                "No valid API key. Send one as 'Authorization: Bearer ty-…'; tuneyard keys create makes them."
                if not secret
                else "Incorrect API key, or one that was revoked.",
                code="invalid_api_key",
            )
        if key.is_expired(datetime.datetime.now(datetime.UTC)):
            raise AuthenticationError(f"The API key {key.name!r} has expired.", code="invalid_api_key")
        return key

    def admit(self, authorization: str, model: str) -> Grant:
        """Raises AuthenticationError, PermissionDeniedError for a model outside of the key's scope, RateLimitError."""
        key = self.check(authorization)
        if key is None:
            return Grant(None)
        if key.models and model not in key.models:
            raise PermissionDeniedError(
                f"This key may not use the model {model!r}; it may use {', '.join(key.models)}.",
                param="model",
                code="model_not_allowed",
            )
        use = self._use_of(key)
        self._check_limits(key, use)
        if use.requests is not None:
            use.requests.level -= 1
        use.running += 1
        return Grant(use)

    def _check_limits(self, key: ApiKey, use: _Use) -> None:
        if key.max_streams is not None and use.running >= key.max_streams:
            raise _over("concurrent requests", key.max_streams, 1.0)
        for bucket, what in ((use.requests, "requests"), (use.tokens, "tokens")):
            if bucket is not None and bucket.refill() < 1:
                raise _over(f"{what} per minute", bucket.per_minute, bucket.wait_s(1))

    def _use_of(self, key: ApiKey) -> _Use:
        """Kept as long as the key's limits are the same."""
        use = self._uses.get(key.sha256)
        limits = (key.requests_per_minute, key.tokens_per_minute)
        known = (use.requests and use.requests.per_minute, use.tokens and use.tokens.per_minute) if use else None
        if use is None or known != limits:
            requests, tokens = (_Bucket(limit, self._now) if limit else None for limit in limits)
            if use is None:
                use = self._uses[key.sha256] = _Use(requests, tokens)
            else:  # the same object, for running requests give their places back to it
                use.requests, use.tokens = requests, tokens
        return use


def _over(what: str, limit: int, wait_s: float) -> RateLimitError:
    seconds = max(1, math.ceil(wait_s))
    return RateLimitError(
        f"Over this key's limit of {limit} {what}. Try again in {seconds} s.",
        retry_after_s=seconds,
        code="rate_limit_exceeded",
    )
