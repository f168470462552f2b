"""A fine-tuning API for commands, whose reconciler works in a thread and whose jobs train in this process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
from starlette.testclient import TestClient

from tests.serve_apps.platform_app.fine_tuning.cluster_in_process import ClusterInProcess
from tests.serve_apps.platform_app.fine_tuning.tuning_setup import NoDeployedModels, Work, base_options
from tests.serve_apps.platform_app.platform_under_test import open_platform
from tuneyard.storage.sql.location import SqlLocation

URL = "http://testserver/v1"


@contextlib.contextmanager
def api_in_thread(folder: Path, **options: Any) -> Iterator[openai.OpenAI]:
    """Its client. `options` are PlatformConfig's."""
    cluster = ClusterInProcess()
    location = SqlLocation(file=folder / "db")
    options = {"cluster": cluster.services, "directory": NoDeployedModels(), **options}
    with open_platform(location, folder, **options, **base_options(folder)) as platform:
        work, ended = Work(platform, cluster), threading.Event()

        async def reconcile() -> None:
            while not ended.is_set():
                await work.run(1)
                await asyncio.sleep(0.05)

        thread = threading.Thread(target=lambda: asyncio.run(reconcile()))
        thread.start()
        try:
            # Without its lifespan, which is that of a replica of Ray Serve.
            http = TestClient(platform.api, base_url="http://testserver")
            yield openai.OpenAI(api_key="none", base_url=URL, http_client=http, max_retries=0)
        finally:
            ended.set()
            thread.join()
