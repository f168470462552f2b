"""A model that a key may not use looks to it like one that no application runs, by every name and on every route."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_apps.api.model_calls import PATHS
from serve_apps.gateway.metrics import GatewayMetrics
from serve_apps.keys.key_gate import KeyGate
from tuneyard.api.api_keys import KeyStore
from tuneyard.configs.serve import HttpConfig


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Serve's own, when it is imported
async def test_hidden_models_and_unknown_ones_are_refused_alike(tmp_path: Path) -> None:
    from serve_apps.api.model_calls import ModelDescription
    from serve_apps.gateway.alias_cache import AliasCache
    from serve_apps.gateway.app import create_gateway_api
    from serve_apps.gateway.model_directory import ModelDirectory
    from serve_apps.gateway.running_model import RunningModel

    class HiddenModel(ModelDirectory):
        """The model `hidden`, version `hidden/1`, without Ray."""

        async def models(self) -> list[RunningModel]:
            handle: Any = None
            return [RunningModel("hidden", ModelDescription("hidden", "hidden/1", 128, 0, {}), handle)]

    directory = HiddenModel(AliasCache(lambda alias: "hidden/1" if alias == "hidden@x" else None))
    store = KeyStore(tmp_path / "api_keys.json")
    _, secret = store.create("narrow", models=("other",), tokens_per_minute=50)
    headers = {"Authorization": f"Bearer {secret}"}
    shared_metrics: Any = None
    http = HttpConfig(allowed_hosts=("*",))
    api = create_gateway_api(directory, KeyGate(store), http, GatewayMetrics("r"), shared_metrics)
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for path in PATHS:
            texts = set()
            for name in ("hidden", "hidden/1", "hidden@x", "none", "none/1", "none@x", "other"):
                body = {"model": name, "stream": True, "max_tokens": "many"}
                for refused in (
                    await client.post(path, json=body, headers=headers),
                    await client.get(f"/v1/models/{name}", headers=headers),
                ):
                    assert refused.status_code == 404
                    texts.add(refused.text.replace(repr(name), "NAME"))
            assert len(texts) == 1
