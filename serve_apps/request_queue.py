"""The request queue of a Ray Serve deployment: how many requests run and wait, and how more are refused."""

from __future__ import annotations

from typing import Any

from ray.serve.config import BackpressureConfig

from tuneyard.core.errors import OverloadedError

UNLIMITED = 1_000_000
"""What Serve takes for requests that may wait without a limit: its own -1 is for its queue only."""


def replica_queue_options(max_ongoing_requests: int, max_queued_requests: int) -> dict[str, Any]:
    """Options for the deployment of a model's replicas, in which requests wait for the engine.

    A request that waits in a replica has an open stream: headers, and comments while it waits. One that waits in
    Serve's own queue has nothing, so that queue is only for the time without a replica, and for what is beyond. Health
    checks are requests too, and wait behind no other one in a replica.
    """
    waiting = UNLIMITED if max_queued_requests == -1 else max_queued_requests
    return request_queue_options(max_ongoing_requests + waiting, max_queued_requests)


def request_queue_options(max_ongoing_requests: int, max_queued_requests: int) -> dict[str, Any]:
    """Options for `serve.deployment`. Serve itself refuses requests beyond the queue, with 503 and Retry-After.

    Serve's queue has at least one place, because Serve allows no less.
    """
    return {
        "max_ongoing_requests": max_ongoing_requests,
        "max_queued_requests": max_queued_requests or 1,
        "backpressure_config": BackpressureConfig(
            status_code=OverloadedError.status_code, retry_after_s=OverloadedError.retry_after_s
        ),
    }
