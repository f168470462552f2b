"""The export proof looks at a bounded number of places, however long the rows are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobs.checkpoints.probe_rows import limit_places
from tuneyard.training_data.token_table import IGNORED_LABEL

LABELS = st.lists(st.sampled_from([IGNORED_LABEL, 7, 8]), min_size=1, max_size=40)


@given(labels=st.lists(LABELS, min_size=1, max_size=8), most=st.integers(8, 60))
def test_no_more_places_than_allowed_and_no_fewer_than_there_are(labels: list[list[int]], most: int) -> None:
    rows = [{"input_ids": list(range(len(each))), "labels": each} for each in labels]
    limited = limit_places(rows, most)
    kept = [{i for i, label in enumerate(row["labels"]) if label != IGNORED_LABEL} for row in limited]
    given_places = [{i for i, label in enumerate(each) if i and label != IGNORED_LABEL} for each in labels]
    assert sum(map(len, kept)) == min(most, sum(map(len, given_places)))
    assert all(row["input_ids"] == before["input_ids"] for row, before in zip(limited, rows, strict=True))
    for places, before, row, after in zip(kept, given_places, labels, limited, strict=True):
        assert places <= before
        assert all(after["labels"][i] == row[i] for i in places)
        # Every row that has labels keeps one: there is room for all.
        assert bool(places) == bool(before)
