"""The gateway's list of models shows a key only what it may use; its replicas are placed by resources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_apps.gateway.metrics import GatewayMetrics
from serve_apps.keys.key_gate import KeyGate
from tuneyard.api.api_keys import KeyStore
from tuneyard.configs.serve import GatewayConfig, HttpConfig
from tuneyard.core.resources import ResourceRequest


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Serve's own, when it is imported
async def test_a_key_sees_only_the_models_that_it_may_use(tmp_path: Path) -> None:
    from serve_apps.api.model_calls import ModelDescription
    from serve_apps.gateway.app import create_gateway_api
    from serve_apps.gateway.model_directory import ModelDirectory
    from serve_apps.gateway.running_model import RunningModel

    class TwoModels(ModelDirectory):
        """The models `small` and `large`, without Ray."""

        async def models(self) -> list[RunningModel]:
            handle: Any = None
            names = ("large", "small")
            return [RunningModel(name, ModelDescription(name, f"{name}/1", 128, 0, {}), handle) for name in names]

    store = KeyStore(tmp_path / "api_keys.json")
    http = HttpConfig(allowed_hosts=("*",))
    shared_metrics: Any = None
    api = create_gateway_api(TwoModels(), KeyGate(store), http, GatewayMetrics("r"), shared_metrics)
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for models, visible in (((), ["large", "small"]), (("small",), ["small"])):
            _, secret = store.create("-".join(("key", *models)), models=models)
            headers = {"Authorization": f"Bearer {secret}"}
            listed = (await client.get("/v1/models", headers=headers)).json()
            assert [card["id"] for card in listed["data"]] == visible
            for name in ("large", "large/1", "unknown"):
                one = await client.get(f"/v1/models/{name}", headers=headers)
                assert one.status_code == (200 if "large" in visible and name != "unknown" else 404)
                assert models == () or "small" not in one.json()["error"]["message"]
                body = {"model": name, "messages": [{"role": "user", "content": "hi"}]}
                if name == "unknown":
                    refused = await client.post("/v1/chat/completions", headers=headers, json=body)
                    error = refused.json()["error"]
                    assert (refused.status_code, error["code"]) == (404, "model_not_found")
                    assert ("large" in error["message"]) == ("large" in visible)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_gateway_is_placed_by_resources() -> None:
    from serve_apps.gateway.app import build_gateway
    from serve_apps.http_front.access import Access

    config = GatewayConfig(num_replicas=2, num_cpus=0.2, resources={"serve": 0.01})
    options = build_gateway(config, Access())._bound_deployment.ray_actor_options
    assert (options["num_cpus"], options["resources"]) == (0.2, {"serve": 0.01})
    assert config.resource_request == ResourceRequest(2, {"CPU": 0.2, "serve": 0.01})
    assert GatewayConfig().resource_request.per_process == {"CPU": 0.5}
