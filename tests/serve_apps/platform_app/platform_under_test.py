"""The application without Ray: its API behind the unmodified OpenAI SDK, its reconciler step by step."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
from fastapi import FastAPI

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Ray Serve's own, when it is imported
    from serve_apps.gateway.app import create_gateway_api

from serve_apps.gateway.alias_cache import AliasCache
from serve_apps.gateway.metrics import GatewayMetrics
from serve_apps.gateway.model_directory import ModelDirectory
from serve_apps.http_front.access import Access
from serve_apps.keys.key_gate import KeyGate
from serve_apps.platform_app.app import MULTIPART_PATHS, add_platform_routes, build_parts
from serve_apps.platform_app.context import PlatformContext
from serve_apps.platform_app.fine_tuning.building import TuningCluster
from serve_apps.platform_app.part import Part
from serve_apps.platform_app.runs.run_reader import RunReader
from serve_apps.platform_app.store.platform_database import open_database
from tests.serve_apps.platform_app.fine_tuning.cluster_in_process import ClusterInProcess
from tuneyard.api.api_keys import KeyStore
from tuneyard.configs.platform_api.platform_config import PlatformConfig
from tuneyard.configs.serve import HttpConfig
from tuneyard.storage.sql.location import SqlLocation

ADMIN_KEY = "the administrators' key"


class NoMetrics:
    """In place of SharedMetrics, which needs Ray Serve."""

    publishing = nullcontext


@dataclass(frozen=True)
class PlatformUnderTest:
    """One process with all parts, which is API and reconciler at once."""

    context: PlatformContext
    parts: list[Part]
    api: FastAPI
    keys: KeyStore | None

    def create_key(self, name: str, **options: Any) -> str:
        """The secret of a new API key."""
        assert self.keys is not None
        return self.keys.create(name, **options)[1]

    def http(self, secret: str = "") -> httpx.AsyncClient:
        """A client of the API, without an SDK."""
        transport = httpx.ASGITransport(self.api, raise_app_exceptions=False)
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        return httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers, timeout=60)

    def sdk(self, secret: str = "") -> openai.AsyncOpenAI:
        """The OpenAI SDK, which retries nothing."""
        transport = httpx.ASGITransport(self.api, raise_app_exceptions=False)
        client: Any = httpx.AsyncClient(transport=transport, timeout=60)
        return openai.AsyncOpenAI(
            api_key=secret or "none", base_url="http://test/v1", http_client=client, max_retries=0
        )

    async def reconcile(self) -> None:
        """One step of every part."""
        for part in self.parts:
            await part.reconcile(0.0)


@contextlib.contextmanager
def open_platform(
    location: SqlLocation,
    folder: Path,
    *,
    directory: ModelDirectory | None = None,
    keys: KeyStore | None = None,
    http: dict[str, Any] | None = None,
    cluster: TuningCluster | None = None,
    runs: RunReader | None = None,
    **options: Any,
) -> Iterator[PlatformUnderTest]:
    """The application on this database, with its files in `folder`. Without `keys` requests need none.

    `options` are PlatformConfig's, `http` are HttpConfig's. Jobs run on `cluster`, by default on a new one in this
    process; `runs` reads all runs.
    """
    config = PlatformConfig(**{"files": str(folder / "files"), "path": folder / "db"} | options)
    access = Access(
        ADMIN_KEY,
        keys.path if keys else None,
        HttpConfig(**{"allowed_hosts": ("*",)} | (http or {})),
        audit_file=folder / "audit.jsonl",
    )
    gate = KeyGate(keys)
    models = directory or ModelDirectory(AliasCache(lambda _: None))
    with contextlib.closing(open_database(location)) as database:
        context = PlatformContext.open(config, access, gate, models, database)
        shared_metrics: Any = NoMetrics()
        api = create_gateway_api(
            models, gate, access.http, GatewayMetrics("r"), shared_metrics, multipart_paths=MULTIPART_PATHS
        )
        parts = build_parts(context, cluster or ClusterInProcess().services, runs)
        add_platform_routes(api, parts, context)
        yield PlatformUnderTest(context, parts, api, keys)
