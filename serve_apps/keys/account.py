"""KeyAccount: what one API key uses in this process, and the checks of its limits."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass

from serve_apps.keys.rate_bucket import RateBucket
from tuneyard.api.api_keys import ApiKey
from tuneyard.api.usage_counts import UsageCounts
from tuneyard.api.usage_ledger import next_month
from tuneyard.core.errors import QuotaError, RateLimitError
from tuneyard.core.wording import count_of


@dataclass(slots=True)
class KeyAccount:
    """What one key has used. A bucket is None if the key has no such limit."""

    requests: RateBucket | None
    tokens: RateBucket | None
    running: int = 0
    """Answers that are being made or waited for now; a request with `n` choices counts as n."""
    reserved: int = 0
    """Tokens that running requests may still take."""
    unrecorded: int = 0
    """Requests that were admitted and are not part of the key's usage yet."""

    def check(self, key: ApiKey, more_streams: int, more_requests: int, month: UsageCounts) -> None:
        """Raises RateLimitError if the key has no token left, or has no room for so many more streams or requests.

        `month` is the key's usage of this month, of all replicas. Raises QuotaError if it is the key's budget.
        """
        self._check_budget(key, more_requests, month)
        if key.max_streams is not None and self.running + more_streams > key.max_streams:
            asked = f", and this one asks for {more_streams} more" if more_streams > 1 else ""
            raise rate_limit_error(
                f"This key has {count_of(self.running, 'request')} running{asked}; its limit is {key.max_streams} at a "
                "time.",
                1.0,
            )
        if self.tokens is None:
            return
        if self.tokens.is_empty:
            raise bucket_error(self.tokens, "token")
        if self.tokens.available <= self.reserved:
            raise self._reserved_error(self.tokens.used, f"{self.tokens.per_minute:,} per minute")

    def _check_budget(self, key: ApiKey, more_requests: int, month: UsageCounts) -> None:
        if (limit := key.tokens_per_month) is not None:
            if month.tokens >= limit:
                raise _quota_error(month.tokens, "token", limit)
            if month.tokens + self.reserved >= limit:
                raise self._reserved_error(month.tokens, f"{limit:,} per month")
        if (limit := key.requests_per_month) is not None:
            requests = month.requests + self.unrecorded
            if requests + more_requests > limit:
                raise _quota_error(requests, "request", limit)

    def _reserved_error(self, used: int, limit: str) -> RateLimitError:
        return rate_limit_error(
            f"This key used {count_of(used, 'token')}, and {self.reserved:,} are reserved for its running requests; "
            f"its limit is {limit}.",
            1.0,
        )


def bucket_error(bucket: RateBucket, noun: str) -> RateLimitError:
    return rate_limit_error(
        f"This key used {count_of(bucket.used, noun)}; its limit is {bucket.per_minute:,} per minute.",
        bucket.seconds_until(1),
    )


def rate_limit_error(reason: str, wait_s: float) -> RateLimitError:
    """The error for a key that is at a limit for `wait_s` seconds."""
    retry_after_s = max(1, math.ceil(wait_s))
    return RateLimitError(
        f"{reason} Retry after {retry_after_s} s.", retry_after_s=retry_after_s, code="rate_limit_exceeded"
    )


def budget_headers(key: ApiKey, month: UsageCounts) -> dict[str, str]:
    """What is left of the key's budgets, and when they renew; none for a key without a budget."""
    headers = {}
    for name, limit, used in (
        ("requests", key.requests_per_month, month.requests),
        ("tokens", key.tokens_per_month, month.tokens),
    ):
        if limit is not None:
            headers[f"x-tuneyard-budget-limit-{name}"] = str(limit)
            headers[f"x-tuneyard-budget-remaining-{name}"] = str(max(0, limit - used))
    if headers:
        headers["x-tuneyard-budget-reset"] = f"{renewal(utc_now()):%Y-%m-%dT%H:%M:%SZ}"
    return headers


def renewal(now: datetime.datetime) -> datetime.datetime:
    """When budgets renew: the beginning of the next month in UTC."""
    return datetime.datetime.combine(next_month(now.date()), datetime.time(), datetime.UTC)


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _quota_error(used: int, noun: str, limit: int) -> QuotaError:
    now = utc_now()
    renews_at = renewal(now)
    return QuotaError(
        f"This key used {count_of(used, noun)} this month; its budget is {limit:,} per month. The budget renews at "
        f"{renews_at:%Y-%m-%d %H:%M} UTC. An administrator can raise it: tuneyard keys update.",
        retry_after_s=max(1, math.ceil((renews_at - now).total_seconds())),
        code="insufficient_quota",
    )
