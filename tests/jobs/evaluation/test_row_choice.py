"""Which rows are asked when a limit is given."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluation.row_choice import spread_rows


@given(st.integers(0, 500), st.integers(1, 600))
def test_rows_are_distinct_in_order_and_evenly_spread(size: int, limit: int) -> None:
    rows = spread_rows(size, limit)
    assert len(rows) == min(size, limit)
    assert rows == sorted(set(rows))
    assert all(0 <= row < size for row in rows)
    gaps = {after - before for before, after in itertools.pairwise(rows)}
    assert not gaps or max(gaps) - min(gaps) <= 1
