"""Requests wait in the replica, where their streams are open; Serve's own queue is for what is beyond."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Serve's own, when it is imported


@pytest.mark.parametrize(("queued", "taken", "in_serve"), [(256, 320, 256), (0, 64, 1), (-1, 1_000_064, -1)])
def test_a_replica_takes_what_runs_and_what_waits(queued: int, taken: int, in_serve: int) -> None:
    from serve_apps.request_queue import replica_queue_options

    options = replica_queue_options(64, queued)
    assert (options["max_ongoing_requests"], options["max_queued_requests"]) == (taken, in_serve)
    assert (options["backpressure_config"].status_code, options["backpressure_config"].retry_after_s) == (503, 1)
