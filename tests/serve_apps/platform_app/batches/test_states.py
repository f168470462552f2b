"""Every status leads to an end, and an end to nothing."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.platform_app.batches.states import ENDED, Event, next_status
from tuneyard.api.wire.platform_api.batches import BatchStatus

STATUSES: tuple[BatchStatus, ...] = get_args(BatchStatus)
WORK = {
    "validating": Event.ACCEPT,
    "in_progress": Event.RESOLVE,
    "finalizing": Event.FINISH,
    "cancelling": Event.FINISH,
}


@pytest.mark.parametrize("status", ENDED)
def test_nothing_changes_a_batch_that_has_ended(status: BatchStatus) -> None:
    assert [next_status(status, event) for event in Event] == [None] * len(Event)


@given(st.lists(st.sampled_from(Event), max_size=12))
def test_after_any_events_the_work_leads_to_an_end(events: list[Event]) -> None:
    status: BatchStatus = "validating"
    is_expired = is_cancelled = False
    for event in events:
        following = next_status(status, event, is_expired=is_expired)
        if following is not None:
            is_expired = is_expired or event is Event.EXPIRE
            is_cancelled = is_cancelled or event is Event.CANCEL
            assert status not in ENDED
            status = following
    while status not in ENDED:
        following = next_status(status, WORK[status], is_expired=is_expired)
        assert following is not None
        assert STATUSES.index(following) != STATUSES.index(status)
        status = following
    if is_cancelled:
        assert status == "cancelled"
    elif is_expired:
        assert status in ("expired", "failed")


def test_a_batch_that_has_not_ended_can_be_cancelled() -> None:
    assert {s for s in STATUSES if next_status(s, Event.CANCEL)} == {"validating", "in_progress", "finalizing"}
