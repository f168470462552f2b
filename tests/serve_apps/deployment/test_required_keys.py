"""An API that other machines can reach is never started without API keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_apps.lifecycle import Deployment
from tuneyard.configs.serve import ServeConfig
from tuneyard.core.errors import ConfigError


def test_an_open_deployment_without_keys_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEYARD_HOME", str(tmp_path))
    config = ServeConfig.model_validate(
        {"http": {"host": "0.0.0.0", "port": 18999}, "models": [{"model_id": "m", "checkpoint": "nowhere"}]}
    )
    with pytest.raises(ConfigError, match=r"http\.host is 0\.0\.0\.0, and there are no API keys"):
        Deployment(config).__enter__()
