"""The routes of runs over a real registry; tests of the Runs page use them too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve_apps.platform_app.platform_under_test import PlatformUnderTest
from tests.serve_apps.platform_app.runs.run_world import RunWorld, run_world
from tuneyard.api.api_keys import KeyStore


@pytest.fixture
def both(tmp_path: Path, tiny_oss: Path, empty_home: Path) -> Iterator[tuple[RunWorld, PlatformUnderTest]]:
    """The world, without a run, and the application, with API keys."""
    with run_world(tmp_path, tiny_oss, empty_home, KeyStore(tmp_path / "keys.json")) as (world, platform):
        world.now = time.time()
        yield world, platform


@pytest.fixture
def world(both: tuple[RunWorld, PlatformUnderTest]) -> RunWorld:
    """The world of `both`."""
    return both[0]
