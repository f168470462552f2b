"""A bucket counts what was taken and refills evenly."""

from __future__ import annotations

from serve_apps.keys.rate_bucket import RateBucket


def test_more_than_available_is_taken_and_refilled_first() -> None:
    now = 100.0
    bucket = RateBucket(60, lambda: now)
    assert (bucket.available, bucket.used, bucket.is_empty) == (60, 0, False)
    bucket.take(90)
    assert (bucket.available, bucket.used, bucket.is_empty) == (0, 90, True)
    assert (bucket.seconds_until(1), bucket.seconds_until(60)) == (31.0, 90.0)
    now += 30.5
    assert (bucket.used, bucket.is_empty) == (60, True), "half a unit is not a whole one"
    now += 1000
    assert (bucket.available, bucket.used) == (60, 0)
