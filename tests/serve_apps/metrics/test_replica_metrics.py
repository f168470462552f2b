"""Every replica shows the metrics of all: nothing twice, and none of replicas that are gone."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.metrics_core import Metric

from serve_apps.metrics import replica_metrics
from serve_apps.metrics.exposition import as_text
from serve_apps.metrics.replica_metrics import SharedMetrics
from tests.dict_key_value_store import DictKeyValueStore


class Replica:
    def __init__(self, application: str, name: str, store: DictKeyValueStore, *, shows_all: bool = False) -> None:
        self.registry = CollectorRegistry()
        self.count = Counter("done", "Done.", ["app", "replica"], registry=self.registry).labels(application, name)
        self.metrics = SharedMetrics(application, name, self._collect, shows_all_applications=shows_all, store=store)

    async def _collect(self) -> list[Metric]:
        return list(self.registry.collect())

    async def page(self) -> set[str]:
        text = as_text(await self.metrics.collect_all())
        return {line for line in text.splitlines() if line.startswith("done_total{")}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> DictKeyValueStore:
    monkeypatch.setattr(replica_metrics, "PUBLISH_INTERVAL_S", 0.01)
    return DictKeyValueStore()


async def test_a_replica_shows_its_application_and_the_gateway_shows_all(store: DictKeyValueStore) -> None:
    one, two, other = Replica("a", "1", store), Replica("a", "2", store), Replica("ab", "3", store)
    gateway = Replica("gateway", "4", store, shows_all=True)
    async with (
        one.metrics.publishing(),
        two.metrics.publishing(),
        other.metrics.publishing(),
        gateway.metrics.publishing(),
    ):
        two.count.inc()
        await asyncio.sleep(0.1)
        one.count.inc(3)  # its own metrics are current
        assert await one.page() == {'done_total{app="a",replica="1"} 3.0', 'done_total{app="a",replica="2"} 1.0'}
        assert await other.page() == {'done_total{app="ab",replica="3"} 0.0'}
        assert len(await gateway.page()) == 4
        two.count.inc(6)
    assert 'done_total{app="a",replica="2"} 7.0' in await one.page(), (
        "the last metrics of a replica that ended are lost"
    )


async def test_metrics_of_a_replica_that_is_gone_expire(
    store: DictKeyValueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = Replica("a", "1", store), Replica("a", "2", store)
    async with two.metrics.publishing():
        await asyncio.sleep(0.02)
    assert len(await one.page()) == 2
    monkeypatch.setattr(replica_metrics, "EXPIRY_S", 0.0)
    assert len(await one.page()) == 1
    assert store.values == {}


async def test_without_the_cluster_only_the_others_are_missing(store: DictKeyValueStore) -> None:
    one, two = Replica("a", "1", store), Replica("a", "2", store)
    async with one.metrics.publishing(), two.metrics.publishing():
        store.is_unreachable = True
        await asyncio.sleep(0.05)
        assert len(await one.page()) == 1
        store.is_unreachable = False
        await asyncio.sleep(0.05)
        assert len(await one.page()) == 2
