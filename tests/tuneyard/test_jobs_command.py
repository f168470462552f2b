"""`tuneyard jobs` as people type it, as far as no cluster is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuneyard.cli import main

CONFIGS = Path("jobs/configs")


def dry_run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["jobs", "submit", *arguments, "--dry-run"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_dry_run_prints_recipe_resources_and_runtime_env(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    found = dry_run(capsys, str(CONFIGS / "gpt_oss_20b_lora.yaml"), "--set", "training.epochs=1")
    assert found["recipe"] == "nemo.collections.llm.gpt_oss_20b.finetune_recipe(peft_scheme='lora')"
    assert found["recipe_values"]["data.global_batch_size"] == 16
    assert found["resources"] == {"workers": 8, "each": {"CPU": 8.0, "GPU": 1}}
    assert found["entrypoint"] == (
        "python -m jobs.finetune --config jobs/configs/gpt_oss_20b_lora.yaml --set training.epochs=1"
    )
    assert set(found["runtime_env"]) == {"working_dir", "py_modules", "env_vars"}
    assert found["runtime_env"]["env_vars"]["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"
    assert "hf_secret" not in json.dumps(found)


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("gpt_oss_*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_config_can_run_by_its_numbers(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = dry_run(capsys, str(config))
    values = found["recipe_values"]
    assert values["trainer.num_nodes"] * values["trainer.devices"] == found["resources"]["workers"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["jobs/configs/gpt_oss_120b_full.yaml", "--set", "workers.num_workers=8"], r"8 workers are no multiple of"),
        (
            ["jobs/configs/gpt_oss_20b_lora.yaml", "--set", "workers.num_workers=9"],
            r"9 workers cannot be shared evenly",
        ),
        (
            ["jobs/configs/gpt_oss_20b_lora.yaml", "--set", "data.batching=packed"],
            r"nemo cannot do data.batching: pack",
        ),
        (["jobs/configs/nothing.yaml"], r"no such config file"),
        (["jobs/configs/demo_cpu.yaml", "--address", "http://127.0.0.1:9"], r"job server at http://127.0.0.1:9: "),
    ],
)
def test_mistakes_are_said_with_the_fix(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "submit", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_config_outside_of_the_checkout_never_reaches_the_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text((CONFIGS / "demo_cpu.yaml").read_text())
    assert main(["jobs", "submit", str(config), "--dry-run"]) == 1
    assert "lies outside of the checkout" in capsys.readouterr().err
