"""`tuneyard platform` takes configs with the API only, and finds it among the applications of a cluster."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from tuneyard.cli.main import main
from tuneyard.cli.platform_commands import API_DEPLOYMENT, _platform


def test_a_config_without_the_api_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "serve.yaml"
    config.write_text("models: [{model_id: m, checkpoint: nowhere}]\n")
    assert main(["platform", "start", str(config)]) == 1
    assert "has no section `platform`" in capsys.readouterr().err


def test_the_api_is_found_by_its_deployment() -> None:
    gateway: dict[str, Any] = {"deployments": {"Gateway": {}}}
    platform: dict[str, Any] = {"deployments": {API_DEPLOYMENT: {}, "Reconciler": {}}}
    assert _platform({"applications": {"m": gateway, "gateway": platform}}) == ("gateway", platform)
    assert _platform({"applications": {"gateway": gateway}}) is None
    assert _platform({}) is None


def test_the_name_is_that_of_the_deployment() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Ray Serve's own, when it is imported
        from serve_apps.platform_app import deployment
    assert deployment.API_DEPLOYMENT == API_DEPLOYMENT
