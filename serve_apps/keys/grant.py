"""Grant: the permission to answer one request, and what the request uses."""

from __future__ import annotations

from serve_apps.keys.account import KeyAccount, budget_headers
from serve_apps.keys.counting import KeyCounting
from serve_apps.keys.model_scope import hidden_model_error, is_restricted, may_use, owner_digest
from serve_apps.keys.shared_counts import SharedCount, TokenClaim
from tuneyard.api.api_keys import ApiKey
from tuneyard.api.usage_counts import UsageCounts
from tuneyard.core.errors import RateLimitError


class Grant:
    """The permission to answer one request.

    Once its content is known: check its model, and reserve its tokens and streams. Charge its tokens as they are made.
    Close it when the answer has ended: what was reserved and not used is then given back.
    """

    def __init__(
        self, key: ApiKey | None = None, account: KeyAccount | None = None, counting: KeyCounting | None = None
    ) -> None:
        self._key = key
        self._account = account
        self._counting = counting or KeyCounting()
        self._is_open = True
        self._streams = 1
        self._reserved = 0
        self._is_unrecorded = False
        self._model = ""
        self._claim: TokenClaim | None = None
        self._shared_requests: SharedCount | None = None

    @property
    def owner(self) -> str:
        """See owner_digest."""
        return owner_digest(self._key)

    @property
    def key_name(self) -> str:
        """The name of the key, which an administrator gave it; "" where no key is needed."""
        return self._key.name if self._key is not None else ""

    @property
    def is_restricted(self) -> bool:
        """See is_restricted."""
        return is_restricted(self._key)

    async def count_request(self) -> None:
        """Counts the request, in all replicas too. Raises RateLimitError; the request is then given back."""
        if self._key is None or self._account is None:
            return
        self._is_unrecorded = True
        self._account.unrecorded += 1
        try:
            if self._counting.shared is not None:
                self._shared_requests = await self._counting.shared.take_request(self._key)
        except BaseException as e:
            if isinstance(e, RateLimitError) and self._account.requests is not None:
                # This replica's count is that of the requests that were let in, for when Redis does not answer.
                self._account.requests.take(-1)
            self._forget_request()
            self.release()
            raise

    def check_model(self, model: str, name: str | None = None) -> None:
        """Raises ModelNotFoundError if the key does not include the model; `name` is what the request calls it."""
        if not may_use(self._key, model):
            raise hidden_model_error(name or model)

    async def reserve(self, model: str, tokens: int, streams: int = 1) -> None:
        """Reserves the tokens of prompt and answers, and counts the request as `streams` answers of `model`.

        As one request may take more than a minute's tokens, it is let in while a token is left that no other request
        has reserved. Raises RateLimitError if none is left, or if the streams are too many. A request that is refused
        here is not part of the key's usage.
        """
        if self._key is None or self._account is None or not self._is_open:
            return
        try:
            self._account.check(self._key, streams - self._streams, 0, self._counting.month_of(self._key))
            self._account.running += streams - self._streams
            self._streams = streams
            self._account.reserved += tokens - self._reserved
            self._reserved = tokens
            if self._counting.shared is not None:
                self._claim = await self._counting.shared.reserve(self._key, tokens)
        except RateLimitError:
            self._forget_request()
            raise
        self._model = model
        self._record_request()

    def charge(self, counts: UsageCounts) -> None:
        """Counts tokens of prompt and answer against the key's limits, instead of as reserved, and as its usage."""
        if self._key is None or self._account is None:
            return
        if self._counting.usage is not None:
            self._counting.usage.add(self._key, self._model, counts)
        if self._account.tokens is not None:
            self._account.tokens.take(counts.tokens)
        if self._claim is not None and self._counting.shared is not None:
            self._counting.shared.charge(self._claim, counts.tokens)
        if self._is_open:
            used = min(counts.tokens, self._reserved)
            self._reserved -= used
            self._account.reserved -= used

    def release(self) -> None:
        """The request no longer counts as running, nor its tokens as reserved. Further calls do nothing."""
        if self._account is not None and self._is_open:
            self._account.running -= self._streams
            self._account.reserved -= self._reserved
            self._record_request()
            if self._claim is not None and self._counting.shared is not None:
                self._counting.shared.release(self._claim)
        self._is_open = False

    async def close(self) -> None:
        """As release; returns when other replicas see it too."""
        has_claim = self._claim is not None and self._is_open
        self.release()
        if has_claim and self._counting.shared is not None:
            await self._counting.shared.settle()

    def headers(self) -> dict[str, str]:
        """OpenAI's rate-limit headers and those of budgets; none for a key without limits."""
        if self._key is None or self._account is None:
            return {}
        headers = {}
        claim = self._claim.left if self._claim is not None else None
        for name, bucket, shared in (
            ("requests", self._account.requests, self._shared_requests),
            ("tokens", self._account.tokens, claim),
        ):
            if bucket is not None:
                own = SharedCount(bucket.available, bucket.seconds_until(bucket.per_minute))
                left = own if shared is None or own.remaining < shared.remaining else shared
                headers[f"x-ratelimit-limit-{name}"] = str(bucket.per_minute)
                headers[f"x-ratelimit-remaining-{name}"] = str(left.remaining)
                headers[f"x-ratelimit-reset-{name}"] = f"{left.reset_s:.3f}s"
        return headers | budget_headers(self._key, self._counting.month_of(self._key))

    def _record_request(self) -> None:
        """The request becomes part of the key's usage, once."""
        if self._is_unrecorded and self._key is not None and self._counting.usage is not None:
            self._counting.usage.add(self._key, self._model, UsageCounts(requests=1))
        self._forget_request()

    def _forget_request(self) -> None:
        if self._is_unrecorded and self._account is not None:
            self._account.unrecorded -= 1
        self._is_unrecorded = False
