from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve_apps.hostile.running_server import Server, running_server


@pytest.fixture(scope="session")
def server(tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tiny_oss, tmp_path_factory.mktemp("hostile")) as server:
        yield server
