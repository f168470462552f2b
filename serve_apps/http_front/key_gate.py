"""KeyGate: lets requests in by API key, and holds each key to its models and limits."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from serve_apps.http_front.rate_bucket import RateBucket
from tuneyard.api.api_keys import ApiKey, KeyStore
from tuneyard.core.errors import AuthenticationError, ModelNotFoundError, PermissionDeniedError, RateLimitError
from tuneyard.core.wording import count_of


@dataclass(slots=True)
class _KeyUsage:
    """What one key has used. A bucket is None if the key has no such limit."""

    requests: RateBucket | None
    tokens: RateBucket | None
    running: int = 0
    """Answers that are being made or waited for now; a request with `n` choices counts as n."""
    reserved: int = 0
    """Tokens that running requests may still take."""


def owner_digest(key: ApiKey | None) -> str:
    """The name under which a key's data is stored: the digest of its secret; "" where no key is needed."""
    return key.sha256 if key is not None else ""


def may_use(key: ApiKey | None, model: str) -> bool:
    """Whether requests with this key may use the model; None is a request that needs no key."""
    return key is None or not key.models or model in key.models


def hidden_model_error(name: str) -> ModelNotFoundError:
    """The error for a model that a key may not use: to this key it does not exist."""
    return ModelNotFoundError(
        f"The model {name!r} does not exist, or this key may not use it. GET /v1/models lists the models of the key.",
        param="model",
        code="model_not_found",
    )


class Grant:
    """The permission to answer one request.

    Once its content is known: check its model, and reserve its tokens and streams. Charge its tokens as they are made.
    Close it when the answer has ended: what was reserved and not used is then given back.
    """

    def __init__(self, key: ApiKey | None, usage: _KeyUsage | None) -> None:
        self._key = key
        self._usage = usage
        self._is_open = True
        self._streams = 1
        self._reserved = 0

    @property
    def owner(self) -> str:
        """See owner_digest."""
        return owner_digest(self._key)

    @property
    def is_restricted(self) -> bool:
        """Whether the key may use only some models; it is then told of no others."""
        return self._key is not None and bool(self._key.models)

    def check_model(self, model: str) -> None:
        """Raises PermissionDeniedError if the key does not include the model."""
        if self._key is not None and not may_use(self._key, model):
            raise PermissionDeniedError(
                f"This key may not use the model {model!r}; it may use {', '.join(self._key.models)}.",
                param="model",
                code="model_not_allowed",
            )

    def reserve(self, tokens: int, streams: int = 1) -> None:
        """Reserves the tokens of prompt and answers, and counts the request as `streams` answers.

        As one request may take more than a minute's tokens, it is let in while a token is left that no other request
        has reserved. Raises RateLimitError if none is left, or if the streams are too many; both change nothing.
        """
        if self._key is None or self._usage is None or not self._is_open:
            return
        _check_limits(self._key, self._usage, streams - self._streams)
        self._usage.running += streams - self._streams
        self._streams = streams
        self._usage.reserved += tokens - self._reserved
        self._reserved = tokens

    def charge(self, tokens: int) -> None:
        """Counts tokens of prompt and answer against the key's limit, instead of as reserved."""
        if self._usage is None:
            return
        if self._usage.tokens is not None:
            self._usage.tokens.take(tokens)
        if self._is_open:
            used = min(tokens, self._reserved)
            self._reserved -= used
            self._usage.reserved -= used

    def close(self) -> None:
        """The request no longer counts as running, nor its tokens as reserved. Further calls do nothing."""
        if self._usage is not None and self._is_open:
            self._usage.running -= self._streams
            self._usage.reserved -= self._reserved
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

    def admit(self, authorization: str) -> Grant:
        """Admits one request, before its body is read, and counts it: invalid requests count too.

        Raises AuthenticationError, or RateLimitError for a key that has reached a limit.
        """
        key = self.authenticate(authorization)
        if key is None:
            return Grant(None, None)
        usage = self._usage_of(key)
        _check_limits(key, usage, 1)
        if usage.requests is not None:
            if usage.requests.is_empty:
                raise _bucket_error(usage.requests, "request")
            usage.requests.take(1)
        usage.running += 1
        return Grant(key, usage)

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


def _check_limits(key: ApiKey, usage: _KeyUsage, more_streams: int) -> None:
    """Raises RateLimitError if the key has no token left, or has no room for so many more streams."""
    if key.max_streams is not None and usage.running + more_streams > key.max_streams:
        asked = f", and this one asks for {more_streams} more" if more_streams > 1 else ""
        raise _rate_limit_error(
            f"This key has {count_of(usage.running, 'request')} running{asked}; its limit is {key.max_streams} at a "
            "time.",
            1.0,
        )
    if usage.tokens is None:
        return
    if usage.tokens.is_empty:
        raise _bucket_error(usage.tokens, "token")
    if usage.tokens.available <= usage.reserved:
        raise _rate_limit_error(
            f"This key used {count_of(usage.tokens.used, 'token')}, and {usage.reserved:,} are reserved for its "
            f"running requests; its limit is {usage.tokens.per_minute:,} per minute.",
            1.0,
        )


def _bucket_error(bucket: RateBucket, noun: str) -> RateLimitError:
    return _rate_limit_error(
        f"This key used {count_of(bucket.used, noun)}; its limit is {bucket.per_minute:,} per minute.",
        bucket.seconds_until(1),
    )


def _rate_limit_error(reason: str, wait_s: float) -> RateLimitError:
    retry_after_s = max(1, math.ceil(wait_s))
    return RateLimitError(
        f"{reason} Retry after {retry_after_s} s.", retry_after_s=retry_after_s, code="rate_limit_exceeded"
    )
