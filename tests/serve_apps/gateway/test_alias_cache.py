"""Aliases are answered from what is known while the registry is slow or down."""

from __future__ import annotations

import threading

import pytest

from serve_apps.gateway import alias_cache
from serve_apps.gateway.alias_cache import AliasCache, RegistryDownError


class Registry:
    """A registry whose answers and failures the test sets."""

    def __init__(self) -> None:
        self.versions: dict[str, str] = {"m@production": "m/1"}
        self.is_down = False
        self.hangs = threading.Event()
        self.hangs.set()
        self.reads = 0

    def __call__(self, alias: str) -> str | None:
        self.reads += 1
        self.hangs.wait(30)
        if self.is_down:
            raise ConnectionError("refused")
        return self.versions.get(alias)


@pytest.fixture
def registry() -> Registry:
    return Registry()


async def test_an_alias_is_read_once_while_it_is_fresh(registry: Registry) -> None:
    cache = AliasCache(registry)
    assert [await cache.version_of("m@production") for _ in range(3)] == ["m/1"] * 3
    assert await cache.version_of("m@other") is None
    assert registry.reads == 2


async def test_the_last_known_version_is_used_when_the_registry_is_down(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alias_cache, "FRESH_S", -1.0)
    cache = AliasCache(registry, deadline_s=10)
    await cache.version_of("m@production")
    registry.versions["m@production"] = "m/2"
    registry.is_down = True
    assert await cache.version_of("m@production") == "m/1"
    with pytest.raises(RegistryDownError) as caught:
        await cache.version_of("m@never_read")
    assert (caught.value.status_code, caught.value.code) == (503, "registry_unavailable")
    registry.is_down = False
    assert await cache.version_of("m@production") == "m/2"


async def test_a_registry_that_hangs_does_not_hold_requests(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alias_cache, "FRESH_S", -1.0)
    cache = AliasCache(registry, deadline_s=0.05, first_deadline_s=0.1)
    registry.hangs.clear()
    with pytest.raises(RegistryDownError, match=r"did not answer in 0.1 s, so the alias 'm@production' is not known"):
        await cache.version_of("m@production")
    registry.hangs.set()
    cache._deadline_s = cache._later_deadline_s = 10
    assert await cache.version_of("m@production") == "m/1"
    registry.hangs.clear()
    cache._deadline_s = 0.05
    assert await cache.version_of("m@production") == "m/1"
    registry.hangs.set()


async def test_clients_cannot_fill_the_memory_with_names(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alias_cache, "MAX_ALIASES", 3)
    cache = AliasCache(registry)
    for number in range(10):
        await cache.version_of(f"m@a{number}")
    assert len(cache._known) == 3
