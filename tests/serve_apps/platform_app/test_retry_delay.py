"""Delays double up to the longest one, however often something has failed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serve_apps.platform_app.retry_delay import retry_delay_s


@given(st.floats(0.001, 10), st.integers(0, 10**6), st.floats(10, 100))
def test_a_delay_doubles_up_to_the_longest(first_s: float, doublings: int, longest_s: float) -> None:
    delay_s = retry_delay_s(first_s, doublings, longest_s)
    assert first_s <= delay_s <= longest_s
    assert retry_delay_s(first_s, doublings + 1, longest_s) == min(2 * delay_s, longest_s)
