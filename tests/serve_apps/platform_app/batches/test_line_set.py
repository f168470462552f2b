"""A set of lines is what was written, in few characters."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serve_apps.platform_app.batches.execution.line_set import LineSet


@given(st.sets(st.integers(1, 300)))
def test_text_and_back(numbers: set[int]) -> None:
    lines = LineSet(numbers)
    again = LineSet.parse(str(lines))
    assert set(again) == numbers
    assert len(again) == len(numbers)
    assert all((number in again) == (number in numbers) for number in range(302))


def test_ranges_are_short() -> None:
    assert str(LineSet(range(1, 50_001))) == "1-50000"
    assert str(LineSet([5, 1, 2, 3, 9, 10])) == "1-3,5,9-10"
