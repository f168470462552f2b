"""SharedMetrics: the metrics of all replicas of an application, from whichever replica a scrape reaches.

Each scrape over HTTP reaches another replica, so counters of single replicas would jump. Therefore each replica labels
its metrics with its name and publishes them in Ray's key-value store, and the scraped replica adds those of the others.
Calls between replicas would not do: they would wait in the request queue, and count as requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from ray.exceptions import RayError

from serve_apps.metrics.exposition import as_text
from tuneyard.cluster.key_value_store import KeyValueStore, RayKeyValueStore

PUBLISH_INTERVAL_S = 2.0
EXPIRY_S = 60.0
"""Metrics that were published longer ago belong to a replica that is gone."""

READ_TIMEOUT_S = 5.0
"""How long a scrape waits for the metrics of other replicas."""

NAMESPACE = "tuneyard-metrics"

logger = logging.getLogger(__name__)


class SharedMetrics:
    """The metrics of one replica, published for the others.

    `collect` gives the replica's own metrics. `shows_all_applications` is for the gateway: its page shows every
    application's metrics.
    """

    def __init__(
        self,
        application: str,
        replica: str,
        collect: Callable[[], Awaitable[Sequence[Metric]]],
        *,
        shows_all_applications: bool = False,
        store: KeyValueStore | None = None,
    ) -> None:
        self._key = f"{application}/{replica}"
        self._prefix = "" if shows_all_applications else f"{application}/"
        self._collect = collect
        self._store = store or RayKeyValueStore(NAMESPACE)

    @contextlib.asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        """Publishes the metrics every PUBLISH_INTERVAL_S while the context is open, and once more at its end.

        The last values stay visible for EXPIRY_S.
        """
        publisher = asyncio.create_task(self._keep_publishing())
        try:
            yield
        finally:
            publisher.cancel()
            await asyncio.gather(publisher, return_exceptions=True)
            await self._publish()

    async def collect_all(self) -> list[Metric]:
        """This replica's current metrics and the last published ones of the others.

        Only this replica's, if the cluster's key-value store does not answer.
        """
        own = list(await self._collect())
        try:
            others = await asyncio.wait_for(asyncio.to_thread(self._read_others), READ_TIMEOUT_S)
        except (RayError, TimeoutError) as e:
            logger.warning("the metrics of other replicas are not available: %s", e)
            return own
        return own + others

    async def _keep_publishing(self) -> None:
        while True:
            await self._publish()
            await asyncio.sleep(PUBLISH_INTERVAL_S)

    async def _publish(self) -> None:
        text = f"{time.time()}\n{as_text(await self._collect())}"
        try:
            await asyncio.to_thread(self._store.put, self._key, text)
        except RayError as e:
            logger.info("the metrics could not be published: %s", e)

    def _read_others(self) -> list[Metric]:
        """The other replicas' metrics; deletes those that have expired."""
        families: list[Metric] = []
        for key, value in self._store.get_prefix(self._prefix).items():
            published_at, _, text = value.partition("\n")
            if time.time() - float(published_at) > EXPIRY_S:
                self._store.delete(key)
            elif key != self._key:
                families += text_string_to_metric_families(text)
        return families
