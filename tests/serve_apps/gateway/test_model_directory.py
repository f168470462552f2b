"""An alias means what is deployed: a version that was only registered does not take its requests away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tuneyard.core.errors import ModelNotFoundError

if TYPE_CHECKING:
    from serve_apps.gateway.model_directory import ModelDirectory

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Serve's own, when it is imported


class Cluster:
    """A registry and the running models, both of which the test sets."""

    def __init__(self) -> None:
        self.aliases: dict[str, str] = {}
        self.is_registry_down = False
        self.running: dict[str, tuple[str, str]] = {}
        """By model id: the version that runs, and what it was deployed by."""

    def read_alias(self, alias: str) -> str | None:
        if self.is_registry_down:
            raise ConnectionError("refused")
        return self.aliases.get(alias)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    from serve_apps.gateway import alias_cache

    monkeypatch.setattr(alias_cache, "FRESH_S", -1.0)  # every request asks the registry
    return Cluster()


@pytest.fixture
def directory(cluster: Cluster) -> ModelDirectory:
    from serve_apps.api.model_calls import ModelDescription
    from serve_apps.gateway.alias_cache import AliasCache
    from serve_apps.gateway.model_directory import ModelDirectory
    from serve_apps.gateway.running_model import RunningModel

    class Directory(ModelDirectory):
        """The models of `cluster`, without Ray."""

        async def models(self) -> list[RunningModel]:
            handle: Any = None
            return [
                RunningModel(name, ModelDescription(name, version, 128, 0, {}, reference), handle)
                for name, (version, reference) in cluster.running.items()
            ]

    return Directory(AliasCache(cluster.read_alias))


async def version_of(directory: ModelDirectory, name: str) -> str:
    return (await directory.find(name)).description.version


async def test_the_registry_moves_first(cluster: Cluster, directory: ModelDirectory) -> None:
    """Until the deployment has followed, its version answers; then the new one does."""
    cluster.aliases["m@production"] = "m/1"
    cluster.running["m"] = ("m/1", "m@production")
    assert await version_of(directory, "m@production") == "m/1"
    cluster.aliases["m@production"] = "m/2"
    assert await version_of(directory, "m@production") == "m/1"
    cluster.running["m"] = ("m/2", "m@production")
    assert await version_of(directory, "m@production") == "m/2"


async def test_a_gateway_that_starts_in_between_answers_the_same(cluster: Cluster, directory: ModelDirectory) -> None:
    cluster.aliases["m@production"] = "m/2"
    cluster.running["m"] = ("m/1", "m@production")
    assert await version_of(directory, "m@production") == "m/1"
    cluster.is_registry_down = True
    assert await version_of(directory, "m@production") == "m/1"


async def test_a_version_that_was_deployed_by_its_number_is_remembered(
    cluster: Cluster, directory: ModelDirectory
) -> None:
    cluster.aliases["m@production"] = "m/1"
    cluster.running |= {"a": ("m/1", "m/1"), "b": ("m/2", "m/2")}
    assert await version_of(directory, "m@production") == "m/1"
    cluster.aliases["m@production"] = "m/3"
    assert await version_of(directory, "m@production") == "m/1"
    cluster.aliases["m@production"] = "m/2"
    assert await version_of(directory, "m@production") == "m/2"
    del cluster.running["b"]
    cluster.aliases["m@production"] = "m/3"
    with pytest.raises(ModelNotFoundError, match=r"It refers to m/3, which is not running. Served: a."):
        await directory.find("m@production")


async def test_an_alias_that_was_deleted_is_no_longer_remembered(cluster: Cluster, directory: ModelDirectory) -> None:
    cluster.aliases["m@production"] = "m/1"
    cluster.running["m"] = ("m/1", "m/1")
    await directory.find("m@production")
    del cluster.aliases["m@production"]
    with pytest.raises(ModelNotFoundError):
        await directory.find("m@production")


async def test_clients_cannot_fill_the_memory_with_names(
    cluster: Cluster, directory: ModelDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_apps.gateway.model_directory.MAX_ALIASES", 3)
    cluster.running["m"] = ("m/1", "m/1")
    for number in range(10):
        cluster.aliases[f"m@a{number}"] = "m/1"
        await directory.find(f"m@a{number}")
    assert len(directory._served_versions) == 3
