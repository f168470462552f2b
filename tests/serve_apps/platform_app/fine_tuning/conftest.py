"""The application with API keys and a base, on a cluster in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.serve_apps.platform_app.fine_tuning.cluster_in_process import ClusterInProcess
from tests.serve_apps.platform_app.fine_tuning.tuning_setup import NoDeployedModels, Work, base_options
from tests.serve_apps.platform_app.platform_under_test import open_platform
from tuneyard.api.api_keys import KeyStore
from tuneyard.storage.sql.location import SqlLocation


@pytest.fixture
def cluster() -> ClusterInProcess:
    return ClusterInProcess()


@pytest.fixture
def work(cluster: ClusterInProcess, sql_location: SqlLocation, tmp_path: Path) -> Iterator[Work]:
    """On each kind of database."""
    keys = KeyStore(tmp_path / "api_keys.json")
    options = {"keys": keys, "cluster": cluster.services, "directory": NoDeployedModels()}
    with open_platform(sql_location, tmp_path, **options, **base_options(tmp_path)) as platform:
        yield Work(platform, cluster)


@pytest.fixture
def client(work: Work) -> openai.AsyncOpenAI:
    """The SDK with a key of its own."""
    return work.platform.sdk(work.platform.create_key("tester"))
