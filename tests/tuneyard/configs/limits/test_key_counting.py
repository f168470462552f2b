"""The store of rate limits is a Redis URL without a password."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from tuneyard.configs.limits.key_counting import KeyCountingConfig
from tuneyard.configs.serve import HttpConfig


def test_by_default_limits_are_counted_per_replica() -> None:
    assert HttpConfig().keys.rate_limits_store is None


@pytest.mark.parametrize("url", ["redis://redis.internal:6379/0", "rediss://user@host", "redis://[::1]:6379"])
def test_redis_urls(url: str) -> None:
    assert KeyCountingConfig(rate_limits_store=url).rate_limits_store == url


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rate_limits_store": "redis://:hunter2@host"}, "Use rate_limits_password_file instead"),
        ({"rate_limits_store": "redis://host?password=hunter2"}, "Use rate_limits_password_file instead"),
        ({"rate_limits_store": "redis:///0"}, "names no host"),
        ({"rate_limits_store": "memcached://host"}, "should match pattern"),
        ({"rate_limits_password_file": Path("/run/secrets/redis")}, "rate_limits_store is null"),
        ({"usage_interval_s": 0}, "greater than or equal to 0.1"),
    ],
)
def test_what_cannot_work_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        KeyCountingConfig(**fields)
    assert all("hunter2" not in error["msg"] for error in caught.value.errors())
