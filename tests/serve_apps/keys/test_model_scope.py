"""A model that a key may not use cannot be told from one that does not exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_apps.api.routes import ApiOptions, create_api
from serve_apps.keys.key_gate import KeyGate
from tests.serve_apps.api_client import ANSWER, CHAT
from tests.serve_apps.conftest import ModelFactory
from tuneyard.api.api_keys import KeyStore

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": CHAT["messages"]},
    "/v1/completions": {"prompt": "x"},
    "/v1/responses": {"input": "x"},
    "/tokenize": {"prompt": "x"},
    "/detokenize": {"tokens": [1]},
}
NAMES = ("tiny", "none", "other")
"""The served model, which the key may not use; a name that nothing has; one that the key may use, not served here."""


@pytest.mark.parametrize("path", list(BODIES))
@pytest.mark.parametrize("stream", [False, True])
async def test_a_hidden_model_looks_like_one_that_does_not_exist(
    make_model: ModelFactory, tmp_path: Path, path: str, stream: bool
) -> None:
    store = KeyStore(tmp_path / "api_keys.json")
    _, narrow = store.create("narrow", models=("other",), tokens_per_minute=50)
    _, wide = store.create("wide")
    api = create_api(make_model(ANSWER), ApiOptions(gate=KeyGate(store)))
    body = BODIES[path] | ({"stream": True} if stream and path.startswith("/v1/") else {})
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        as_narrow, as_wide = ({"Authorization": f"Bearer {secret}"} for secret in (narrow, wide))
        for send in (
            lambda name: client.post(path, json=body | {"model": name}, headers=as_narrow),
            lambda name: client.get(f"/v1/models/{name}", headers=as_narrow),
        ):
            refused = {name: await send(name) for name in NAMES}
            assert {(r.status_code, r.json()["error"]["code"]) for r in refused.values()} == {(404, "model_not_found")}
            assert len({r.text.replace(name, "NAME") for name, r in refused.items()}) == 1
            assert "Served" not in refused["none"].text
        unknown = await client.post(path, json=body | {"model": "none"}, headers=as_wide)
        assert "Served: tiny." in unknown.json()["error"]["message"], "a key of all models is told what there is"
