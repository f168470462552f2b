"""What Weights & Biases needs, and what its config refuses."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tuneyard.configs.experiment_tracking import WandbConfig, check_wandb, wandb_environment
from tuneyard.core.errors import ConfigError, MissingDependencyError


def test_a_missing_package_is_named_with_its_extra() -> None:
    with pytest.raises(MissingDependencyError, match=r"platform\.wandb, which needs the package no_such_package"):
        check_wandb("platform.wandb", {"WANDB_API_KEY": "k"}, package="no_such_package")


def test_a_folder_of_runs_is_no_package(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package keeps runs in a folder `wandb` of the working directory, which Python can import."""
    (tmp_path / "runs_of_wandb").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingDependencyError):
        check_wandb("wandb", {"WANDB_API_KEY": "k"}, package="runs_of_wandb")


def test_an_api_key_is_needed_to_send_anything() -> None:
    with pytest.raises(ConfigError, match="WANDB_API_KEY is not set"):
        check_wandb("wandb", {}, package="json")
    check_wandb("wandb", {"WANDB_API_KEY": "k"}, package="json")
    check_wandb("wandb", {"WANDB_MODE": "offline"}, package="json")


def test_a_process_elsewhere_gets_what_the_check_has_seen() -> None:
    environment = {"WANDB_API_KEY": "k", "WANDB_MODE": "online", "HF_TOKEN": "t", "WANDB_DIR": "/here"}
    assert wandb_environment(environment) == {"WANDB_API_KEY": "k", "WANDB_MODE": "online"}
    assert wandb_environment({"WANDB_API_KEY": "", "WANDB_MODE": "offline"}) == {"WANDB_MODE": "offline"}


@pytest.mark.parametrize(
    "fields",
    [
        {"base_url": "https://user:hunter2@wandb.example"},
        {"base_url": "https://wandb.example?key=hunter2"},
        {"base_url": "ftp://wandb.example"},
        {"project": "a/b"},
        {"project": ""},
        {"entity": "../x"},
        {"run_id": "a b/c"},
        {"tags": ("x" * 65,)},
        {"api_key": "hunter2"},
    ],
)
def test_what_is_no_place_of_a_run_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as error:
        WandbConfig.model_validate({"project": "p"} | fields)
    assert all("hunter2" not in problem["msg"] for problem in error.value.errors())


def test_a_server_of_ones_own() -> None:
    config = WandbConfig.model_validate({"project": "my project", "base_url": "https://wandb.example:8443/x"})
    assert config.base_url == "https://wandb.example:8443/x"
