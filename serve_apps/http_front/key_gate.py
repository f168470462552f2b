"""KeyGate: lets requests in by API key, and holds each key to its models and limits."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from serve_apps.http_front.rate_bucket import RateBucket
from tuneyard.api.api_keys import ApiKey, KeyStore
from tuneyard.core.errors import AuthenticationError, PermissionDeniedError, RateLimitError
from tuneyard.core.wording import count_of


@dataclass(slots=True)
class _KeyUsage:
    """What one key has used. A bucket is None if the key has no such limit."""

    requests: RateBucket | None
    tokens: RateBucket | None
    running: int = 0
    """Requests that are being answered now."""


class Grant:
    """The permission to answer one request. Charge its tokens as they are made; close it when the answer has ended."""

    def __init__(self, usage: _KeyUsage | None) -> None:
        self._usage = usage
        self._is_open = True

    def charge(self, tokens: int) -> None:
        """Counts tokens of prompt and answer against the key's limit."""
        if self._usage is not None and self._usage.tokens is not None:
            self._usage.tokens.take(tokens)

    def close(self) -> None:
        """The request no longer counts as running. Further calls do nothing."""
        if self._usage is not None and self._is_open:
            self._usage.running -= 1
        self._is_open = False

    def headers(self) -> dict[str, str]:
        """OpenAI's rate-limit headers; none for a key without limits."""
        headers = {}
        for name, bucket in (
            ("requests", self._usage and self._usage.requests),
            ("tokens", self._usage and self._usage.tokens),
        ):
            if bucket:
                headers[f"x-ratelimit-limit-{name}"] = str(bucket.per_minute)
                headers[f"x-ratelimit-remaining-{name}"] = str(bucket.available)
                headers[f"x-ratelimit-reset-{name}"] = f"{bucket.seconds_until(bucket.per_minute):.3f}s"
        return headers


class KeyGate:
    """Admits requests by the keys in `store`. Without a store it admits every request and counts nothing.

    The counts are kept in this process: every replica has its own. `now` gives seconds.
    """

    def __init__(self, store: KeyStore | None, now: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._now = now
        self._usages: dict[str, _KeyUsage] = {}

    def authenticate(self, authorization: str) -> ApiKey | None:
        """The key in an Authorization header; None if no key is needed. Raises AuthenticationError."""
        if self._store is None:
            return None
        scheme, _, secret = authorization.partition(" ")
        key = self._store.find(secret.strip()) if scheme.lower() == "bearer" and secret.strip() else None
        if key is None:
            raise AuthenticationError(
                "The request has no valid API key. Send one as 'Authorization: Bearer ty-…'; `tuneyard keys create` "
                "makes keys."
                if not secret
                else "The API key is incorrect, or it was revoked.",
                code="invalid_api_key",
            )
        if key.is_expired(datetime.datetime.now(datetime.UTC)):
            raise AuthenticationError(f"The API key {key.name!r} has expired.", code="invalid_api_key")
        return key

    def admit(self, authorization: str, model: str) -> Grant:
        """Admits one request to `model` and counts it.

        Raises AuthenticationError, PermissionDeniedError for a model that the key does not include, RateLimitError
        for a key that has reached a limit.
        """
        key = self.authenticate(authorization)
        if key is None:
            return Grant(None)
        if key.models and model not in key.models:
            raise PermissionDeniedError(
                f"This key may not use the model {model!r}; it may use {', '.join(key.models)}.",
                param="model",
                code="model_not_allowed",
            )
        usage = self._usage_of(key)
        _check_limits(key, usage)
        if usage.requests is not None:
            usage.requests.take(1)
        usage.running += 1
        return Grant(usage)

    def _usage_of(self, key: ApiKey) -> _KeyUsage:
        """What the key has used; its buckets start anew if the key's limits have changed."""
        usage = self._usages.get(key.sha256)
        limits = (key.requests_per_minute, key.tokens_per_minute)
        known = (
            (usage.requests and usage.requests.per_minute, usage.tokens and usage.tokens.per_minute) if usage else None
        )
        if usage is None or known != limits:
            requests, tokens = (RateBucket(limit, self._now) if limit else None for limit in limits)
            if usage is None:
                usage = self._usages[key.sha256] = _KeyUsage(requests, tokens)
            else:  # changed in place, because the grants of running requests refer to this object
                usage.requests, usage.tokens = requests, tokens
        return usage


def _check_limits(key: ApiKey, usage: _KeyUsage) -> None:
    """Raises RateLimitError if the key has reached one of its limits."""
    if key.max_streams is not None and usage.running >= key.max_streams:
        raise _rate_limit_error(
            f"This key has {count_of(usage.running, 'request')} running; its limit is {key.max_streams} at a time.", 1.0
        )
    for bucket, noun in ((usage.requests, "request"), (usage.tokens, "token")):
        if bucket is not None and bucket.is_empty:
            raise _rate_limit_error(
                f"This key used {count_of(bucket.used, noun)}; its limit is {bucket.per_minute:,} per minute.",
                bucket.seconds_until(1),
            )


def _rate_limit_error(reason: str, wait_s: float) -> RateLimitError:
    retry_after_s = max(1, math.ceil(wait_s))
    return RateLimitError(
        f"{reason} Retry after {retry_after_s} s.", retry_after_s=retry_after_s, code="rate_limit_exceeded"
    )
