"""The metrics of all replicas, whichever of them is asked.

A scrape over HTTP reaches one replica of many, another one each time, and counters would jump. So each replica labels
its metrics with its name and tells them every TELL_EVERY_S, through Ray's key-value store; who is asked shows all. No
call between replicas: that would wait for a place among their requests, and count as one.
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
from tuneyard.cluster.key_value_store import Board, ClusterBoard

TELL_EVERY_S = 2.0
KEPT_S = 60.0
"""A replica that has told nothing for so long is gone."""

LIMIT_S = 5.0
"""How long a scrape waits for what others have told."""

NAMESPACE = "tuneyard-metrics"

logger = logging.getLogger(__name__)


class SharedMetrics:
    """Those of one replica, told to the others, and those of the others. `shows_all`: of every application, not only of
    its own.
    """

    def __init__(
        self,
        application: str,
        replica: str,
        collect: Callable[[], Awaitable[Sequence[Metric]]],
        *,
        shows_all: bool = False,
        board: Board | None = None,
    ) -> None:
        self._key = f"{application}/{replica}"
        self._prefix = "" if shows_all else f"{application}/"
        self._collect = collect
        self._board = board or ClusterBoard(NAMESPACE)

    @contextlib.asynccontextmanager
    async def told(self) -> AsyncIterator[None]:
        """Inside it the metrics are told; at its end once more, and the last ones stay for KEPT_S."""
        teller = asyncio.create_task(self._keep_telling())
        try:
            yield
        finally:
            teller.cancel()
            await asyncio.gather(teller, return_exceptions=True)
            await self._tell()

    async def of_all(self) -> list[Metric]:
        """This replica's as they are now, the others' as last told; without these when the cluster does not answer."""
        own = list(await self._collect())
        try:
            others = await asyncio.wait_for(asyncio.to_thread(self._others), LIMIT_S)
        except (RayError, TimeoutError) as e:
            logger.warning("the metrics of other replicas are not known now: %s", e)
            return own
        return own + others

    async def _keep_telling(self) -> None:
        while True:
            await self._tell()
            await asyncio.sleep(TELL_EVERY_S)

    async def _tell(self) -> None:
        text = f"{time.time()}\n{as_text(await self._collect())}"
        try:
            await asyncio.to_thread(self._board.put, self._key, text)
        except RayError as e:
            logger.info("the metrics could not be told: %s", e)

    def _others(self) -> list[Metric]:
        families: list[Metric] = []
        for key, value in self._board.found(self._prefix).items():
            told_at, _, text = value.partition("\n")
            if time.time() - float(told_at) > KEPT_S:
                self._board.remove(key)
            elif key != self._key:
                families += text_string_to_metric_families(text)
        return families
