"""LeaseKeeper: one question to the store for all responses of a process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from pathlib import Path

import pytest

from serve_apps.api.responses import lease_keeper
from serve_apps.api.responses.lease_keeper import LeaseKeeper
from serve_apps.api.responses.store import LEASE_S, ResponseStore
from tuneyard.storage.sql.location import SqlLocation


class CountingStore(ResponseStore):
    """Counts how often it is asked and renewed."""

    questions = 0
    renewals = 0

    def wanted(self, response_ids: Collection[str]) -> set[str]:
        self.questions += 1
        return super().wanted(response_ids)

    def renew_leases(self, response_ids: Collection[str]) -> None:
        self.renewals += 1
        super().renew_leases(response_ids)


async def test_leases_are_kept_and_each_cancelled_response_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_keeper, "POLL_S", 0.01)
    monkeypatch.setattr(lease_keeper, "RENEWAL_S", 0.0)
    now = [1000.0]
    location = SqlLocation(file=tmp_path / "db")
    store = CountingStore(location, max_age_s=1e6, max_bytes_per_owner=2**20, now=lambda: now[0])
    told: list[str] = []

    def tell(name: str) -> lease_keeper.Callable[[], lease_keeper.Awaitable[None]]:
        async def on_cancel() -> None:
            told.append(name)

        return on_cancel

    names = [f"r{number}" for number in range(20)]
    with contextlib.closing(store), contextlib.ExitStack() as stack:
        keeper = LeaseKeeper(store)
        for name in names:
            store.begin("o", {"id": name, "output": [], "status": "in_progress"}, [], [])
            stack.enter_context(keeper.keeping(name, tell(name)))
        store.cancel("o", "r3")
        store.delete("o", "r5")
        while len(told) < 2:
            await asyncio.sleep(0.01)
        for _ in range(3):
            now[0] += LEASE_S
            seen = store.renewals
            while store.renewals < seen + 2:
                await asyncio.sleep(0.01)
        assert sorted(told) == ["r3", "r5"]
        found = store.find("o", "r1")
        assert found is not None
        assert not found.is_final
        stack.close()
        await asyncio.sleep(0.05)
        questions = store.questions
        await asyncio.sleep(0.1)
        assert store.questions == questions


async def test_a_response_that_cannot_be_stopped_does_not_end_the_leases_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_keeper, "POLL_S", 0.01)
    monkeypatch.setattr(lease_keeper, "RENEWAL_S", 0.0)
    store = CountingStore(SqlLocation(file=tmp_path / "db"), max_age_s=1e6, max_bytes_per_owner=2**20)

    async def fail() -> None:
        raise ValueError("no such request")

    async def ignore() -> None:
        pass

    with contextlib.closing(store), contextlib.ExitStack() as stack:
        keeper = LeaseKeeper(store)
        for name, on_cancel in (("bad", fail), ("good", ignore)):
            store.begin("o", {"id": name, "output": [], "status": "in_progress"}, [], [])
            stack.enter_context(keeper.keeping(name, on_cancel))
        store.cancel("o", "bad")
        while store.questions < 3:
            await asyncio.sleep(0.01)
        renewals = store.renewals
        while store.renewals < renewals + 3:
            await asyncio.sleep(0.01)
