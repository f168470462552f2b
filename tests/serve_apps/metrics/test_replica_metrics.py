"""Whichever replica is asked, it shows all; nothing twice, nobody who is gone."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.metrics_core import Metric

from serve_apps.metrics import replica_metrics
from serve_apps.metrics.exposition import as_text
from serve_apps.metrics.replica_metrics import SharedMetrics
from tests.dict_board import DictBoard


class Replica:
    def __init__(self, application: str, name: str, board: DictBoard, *, shows_all: bool = False) -> None:
        self.registry = CollectorRegistry()
        self.count = Counter("done", "Done.", ["app", "replica"], registry=self.registry).labels(application, name)
        self.metrics = SharedMetrics(application, name, self._collect, shows_all=shows_all, board=board)

    async def _collect(self) -> list[Metric]:
        return list(self.registry.collect())

    async def page(self) -> set[str]:
        text = as_text(await self.metrics.of_all())
        return {line for line in text.splitlines() if line.startswith("done_total{")}


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> DictBoard:
    monkeypatch.setattr(replica_metrics, "TELL_EVERY_S", 0.01)
    return DictBoard()


async def test_each_shows_those_of_its_application_and_the_gateway_all(board: DictBoard) -> None:
    one, two, other = Replica("a", "1", board), Replica("a", "2", board), Replica("ab", "3", board)
    gateway = Replica("gateway", "4", board, shows_all=True)
    async with one.metrics.told(), two.metrics.told(), other.metrics.told(), gateway.metrics.told():
        two.count.inc()
        await asyncio.sleep(0.1)
        one.count.inc(3)  # its own are those of now
        assert await one.page() == {'done_total{app="a",replica="1"} 3.0', 'done_total{app="a",replica="2"} 1.0'}
        assert await other.page() == {'done_total{app="ab",replica="3"} 0.0'}
        assert len(await gateway.page()) == 4
        two.count.inc(6)
    assert 'done_total{app="a",replica="2"} 7.0' in await one.page(), "the last ones of who has left are lost"


async def test_who_is_gone_is_forgotten(board: DictBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Replica("a", "1", board), Replica("a", "2", board)
    async with two.metrics.told():
        await asyncio.sleep(0.02)
    assert len(await one.page()) == 2
    monkeypatch.setattr(replica_metrics, "KEPT_S", 0.0)
    assert len(await one.page()) == 1
    assert board.texts == {}


async def test_a_cluster_that_does_not_answer_costs_only_the_others(board: DictBoard) -> None:
    one, two = Replica("a", "1", board), Replica("a", "2", board)
    async with one.metrics.told(), two.metrics.told():
        board.is_away = True
        await asyncio.sleep(0.05)
        assert len(await one.page()) == 1
        board.is_away = False
        await asyncio.sleep(0.05)
        assert len(await one.page()) == 2
