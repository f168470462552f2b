"""The metrics of all replicas of a deployment.

A scrape over HTTP reaches one replica of many, another one each time, and counters would jump. So each replica labels
its metrics with its name and answers for all of them.
"""

from __future__ import annotations

import logging
from typing import Any

from prometheus_client.metrics_core import Metric
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

LIMIT_S = 5.0
"""A replica that does not tell its metrics in this time is left out."""

logger = logging.getLogger(__name__)


async def metrics_of_all(handle: DeploymentHandle[Any]) -> list[Metric]:
    """What `metrics()` of every replica gives; nothing, when there is no replica. Starts none."""
    try:
        found = await handle.broadcast("metrics").results_async(timeout_s=LIMIT_S, return_exceptions=True)
    except (RayError, RayServeException, TimeoutError) as e:
        logger.warning("%s tells no metrics: %s", handle.deployment_id, e)
        return []
    for error in found:
        if isinstance(error, BaseException):
            logger.warning("a replica of %s tells no metrics: %s", handle.deployment_id, error)
    return [family for metrics in found if not isinstance(metrics, BaseException) for family in metrics]
