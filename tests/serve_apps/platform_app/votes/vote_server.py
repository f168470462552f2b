"""The votes' routes in this process, on a SQLite file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Ray Serve's own, when it is imported
    from serve_apps.gateway.app import create_gateway_api
    from serve_apps.platform_app.context import PlatformContext
    from serve_apps.platform_app.votes.part import VotesPart
    from tests.serve_apps.platform_app.platform_under_test import NoMetrics
    from tests.serve_apps.platform_app.served_models import ServedModels

from serve_apps.gateway.metrics import GatewayMetrics
from serve_apps.http_front.access import Access
from serve_apps.keys.key_gate import KeyGate
from serve_apps.platform_app.store.platform_database import database_location, open_database
from tuneyard.api.api_keys import KeyStore
from tuneyard.configs.platform_api.platform_config import PlatformConfig

ADMIN_KEY = "the-administrators-key"


@contextmanager
def vote_api(folder: Path, keys: KeyStore | None = None) -> Iterator[FastAPI]:
    """The application. Several may share a folder, as several processes do."""
    config = PlatformConfig(path=folder / "platform.db", files=str(folder / "files"))
    database = open_database(database_location(config, None))
    gate, directory = KeyGate(keys), ServedModels([])
    access = Access(admin_key=ADMIN_KEY, audit_file=folder / "audit.jsonl")
    context = PlatformContext.open(config, access, gate, directory, database)
    shared_metrics: Any = NoMetrics()
    api = create_gateway_api(directory, gate, context.http, GatewayMetrics("r"), shared_metrics)
    VotesPart(context).add_routes(api, gate)
    try:
        yield api
    finally:
        database.close()


def client_of(api: FastAPI, key: str = "none") -> httpx.AsyncClient:
    """A client with an API key."""
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.AsyncClient(transport=transport, base_url="http://test/v1", headers=headers)
