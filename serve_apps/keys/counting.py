"""KeyCounting: where all requests of a deployment are counted, beside each replica's own account of a key."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serve_apps.keys.metrics import KeyMetrics
from serve_apps.keys.usage_recorder import UsageRecorder
from tuneyard.api.api_keys import ApiKey
from tuneyard.api.usage_counts import UsageCounts
from tuneyard.api.usage_ledger import UsageLedger
from tuneyard.configs.limits.key_counting import KeyCountingConfig
from tuneyard.core.errors import MissingDependencyError, PermissionDeniedError
from tuneyard.storage.password_file import read_password
from tuneyard.storage.sql.location import SqlLocation

if TYPE_CHECKING:
    from serve_apps.keys.shared_limits import SharedLimits


@dataclass(frozen=True, slots=True)
class KeyCounting:
    """The usage of keys, and the limits that all replicas share."""

    usage: UsageRecorder | None = None
    """None: usage is not kept, and keys with a budget are refused."""
    shared: SharedLimits | None = None
    """None: each replica holds a key to its limits by itself."""

    def month_of(self, key: ApiKey) -> UsageCounts:
        """What the key used this month. Raises PermissionDeniedError if it has a budget, and usage is not kept."""
        if self.usage is not None:
            return self.usage.of_month(key)
        if key.has_budget:
            raise PermissionDeniedError(
                f"The API key {key.name!r} has a budget per month, and this deployment does not keep the usage of "
                "keys: on a cluster of several nodes it needs `database` in its config.",
                code="budget_not_kept",
            )
        return UsageCounts()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Usage is written, and a Redis that does not answer is tried again, while the context is open."""
        async with contextlib.AsyncExitStack() as stack:
            if self.usage is not None:
                await stack.enter_async_context(self.usage.running())
            if self.shared is not None:
                await stack.enter_async_context(self.shared.running())
            yield


def open_counting(config: KeyCountingConfig, usage: SqlLocation | None, metrics: KeyMetrics) -> KeyCounting:
    """The counting of one process; `usage` is where usage is kept, None if it is not.

    Raises ConfigError if Redis's password cannot be read, MissingDependencyError if its client is not installed.
    """
    recorder = UsageRecorder(UsageLedger(usage), config.usage_interval_s, metrics) if usage is not None else None
    return KeyCounting(recorder, _connect_shared_limits(config, metrics))


def _connect_shared_limits(config: KeyCountingConfig, metrics: KeyMetrics) -> SharedLimits | None:
    if config.rate_limits_store is None:
        return None
    file = config.rate_limits_password_file
    password = read_password(file, "http.keys.rate_limits_password_file") if file else None
    try:
        from serve_apps.keys.shared_limits import SharedLimits
    except ModuleNotFoundError as e:
        if e.name not in ("limits", "redis"):
            raise
        raise MissingDependencyError(
            f"http.keys.rate_limits_store needs the package {e.name}, which is not installed. Run: pip install "
            "'tuneyard[redis]'."
        ) from e
    return SharedLimits(config.rate_limits_store, password, metrics)
