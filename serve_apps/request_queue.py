"""The request queue of a Ray Serve deployment: how many requests run and wait, and how more are refused."""

from __future__ import annotations

from typing import Any

from ray.serve.config import BackpressureConfig

from tuneyard.core.errors import OverloadedError


def request_queue_options(max_ongoing_requests: int, max_queued_requests: int) -> dict[str, Any]:
    """Options for `serve.deployment`. Serve itself refuses requests beyond the queue, with 503 and Retry-After."""
    return {
        "max_ongoing_requests": max_ongoing_requests,
        "max_queued_requests": max_queued_requests,
        "backpressure_config": BackpressureConfig(
            status_code=OverloadedError.status_code, retry_after_s=OverloadedError.retry_after_s
        ),
    }
