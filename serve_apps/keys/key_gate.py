"""KeyGate: lets requests in by API key, and holds each key to its models, limits and budgets."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import AsyncIterator, Callable

from prometheus_client.metrics_core import Metric

from serve_apps.keys.account import KeyAccount, bucket_error
from serve_apps.keys.counting import KeyCounting
from serve_apps.keys.grant import Grant
from serve_apps.keys.metrics import KeyMetrics
from serve_apps.keys.rate_bucket import RateBucket
from tuneyard.api.api_keys import ApiKey, KeyStore
from tuneyard.core.errors import AuthenticationError


class KeyGate:
    """Admits requests by the keys in `store`. Without a store it admits every request and counts nothing.

    Limits are counted in this process, and in `counting` for all replicas together: a request must be within both.
    `now` gives seconds.
    """

    def __init__(
        self,
        store: KeyStore | None,
        now: Callable[[], float] = time.monotonic,
        counting: KeyCounting | None = None,
        metrics: KeyMetrics | None = None,
    ) -> None:
        self._store = store
        self._now = now
        self._counting = counting or KeyCounting()
        self._metrics = metrics
        self._accounts: dict[str, KeyAccount] = {}
        self._deferred_accounts: dict[str, KeyAccount] = {}
        """By key, what its deferred requests use; see admit_deferred."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Usage is written, and limits are shared, while the context is open."""
        async with self._counting.running():
            yield

    def collect(self) -> list[Metric]:
        """Metrics of the counting; none if no key is needed."""
        return self._metrics.collect() if self._metrics is not None else []

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
        _check_expiry(key)
        return key

    def find_owner(self, owner: str) -> ApiKey | None:
        """The key of stored data, by its owner_digest; None if no key is needed.

        Raises AuthenticationError if the key was revoked or has expired, or if the data was stored without a key.
        """
        if self._store is None and not owner:
            return None
        key = self._store.find_by_digest(owner) if self._store is not None else None
        if key is None:
            raise AuthenticationError(
                "The API key that this work was requested with was revoked, or the server required keys at one of the "
                "two times and not at the other.",
                code="invalid_api_key",
            )
        _check_expiry(key)
        return key

    async def admit(self, authorization: str) -> Grant:
        """Admits one request, before its body is read, and counts it: invalid requests count too.

        Raises AuthenticationError, RateLimitError for a key that has reached a limit, and what KeyCounting.month_of
        raises.
        """
        key = self.authenticate(authorization)
        if key is None:
            return Grant()
        account = self._account_of(key)
        account.check(key, 1, 1, self._counting.month_of(key))
        if account.requests is not None:
            if account.requests.is_empty:
                raise bucket_error(account.requests, "request")
            account.requests.take(1)
        account.running += 1
        grant = Grant(key, account, self._counting)
        await grant.count_request()
        return grant

    async def admit_deferred(self, owner: str) -> Grant:
        """Admits one request of work that runs after its own HTTP request has ended, such as a batch, for its owner.

        It counts as the key's usage and against its budgets, and takes nothing of the limits per minute and of
        max_streams: those are for the key's live requests. Raises what find_owner and KeyCounting.month_of raise, and
        QuotaError.
        """
        key = self.find_owner(owner)
        if key is None:
            return Grant()
        key = key.model_copy(update=dict.fromkeys(("requests_per_minute", "tokens_per_minute", "max_streams")))
        account = self._deferred_accounts.setdefault(owner, KeyAccount(None, None))
        account.check(key, 1, 1, self._counting.month_of(key))
        account.running += 1
        grant = Grant(key, account, self._counting)
        await grant.count_request()
        return grant

    def _account_of(self, key: ApiKey) -> KeyAccount:
        """What the key has used; its buckets start anew if the key's limits have changed."""
        account = self._accounts.get(key.sha256)
        limits = (key.requests_per_minute, key.tokens_per_minute)
        known = (
            (account.requests and account.requests.per_minute, account.tokens and account.tokens.per_minute)
            if account
            else None
        )
        if account is None or known != limits:
            requests, tokens = (RateBucket(limit, self._now) if limit else None for limit in limits)
            if account is None:
                account = self._accounts[key.sha256] = KeyAccount(requests, tokens)
            else:  # changed in place, because the grants of running requests refer to this object
                account.requests, account.tokens = requests, tokens
        return account


def _check_expiry(key: ApiKey) -> None:
    if key.is_expired(datetime.datetime.now(datetime.UTC)):
        raise AuthenticationError(f"The API key {key.name!r} has expired.", code="invalid_api_key")
