"""`tuneyard jobs` from the command line, as far as it needs no cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tuneyard.cli.main import main
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.config_loading import load_config

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
    assert found["resources"] == {"workers": 8, "each": {"CPU": 8.0, "GPU": 1.0, "train": 1.0}}
    assert found["entrypoint"] == (
        "python -m jobs.finetune --config jobs/configs/gpt_oss_20b_lora.yaml --set training.epochs=1"
    )
    assert set(found["runtime_env"]) == {"working_dir", "py_modules", "env_vars"}
    assert found["runtime_env"]["env_vars"]["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"
    assert "hf_secret" not in json.dumps(found)


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("gpt_oss_*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_config_has_as_many_workers_as_its_recipe(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = dry_run(capsys, str(config))
    values = found["recipe_values"]
    assert values["trainer.num_nodes"] * values["trainer.devices"] == found["resources"]["workers"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["jobs/configs/gpt_oss_120b_full.yaml", "--set", "workers.num_workers=8"], r"8 workers are not a multiple of"),
        (
            ["jobs/configs/gpt_oss_20b_lora.yaml", "--set", "workers.num_workers=9"],
            r"9 workers cannot be distributed evenly",
        ),
        (
            ["jobs/configs/gpt_oss_20b_lora.yaml", "--set", "data.batching=packed"],
            r"nemo does not support data.batching: pack",
        ),
        (["jobs/configs/nothing.yaml"], r"no such config file"),
        (
            ["jobs/configs/demo_cpu.yaml", "--set", "run.storage=./out"],
            r"is in the checkout",
        ),
        (["jobs/configs/demo_cpu.yaml", "--set", "run.storage=s3://k:s@b/x"], r"holds a password"),
        (["jobs/configs/demo_cpu.yaml", "--set", "data.train=s3://k:s@b/x"], r"holds a password"),
        (["jobs/configs/demo_cpu.yaml", "--address", "head:8265"], r"expected the dashboard's URL, like"),
        (["jobs/configs/demo_cpu.yaml", "--address", "http://127.0.0.1:9"], r"job server at http://127.0.0.1:9: "),
    ],
)
def test_mistakes_are_reported_with_the_fix(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["jobs", "submit", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_config_outside_the_checkout_is_passed_resolved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my configs"
    folder.mkdir()
    config = folder / "mine.yaml"
    config.write_text((CONFIGS / "demo_cpu.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    found = dry_run(capsys, "my configs/mine.yaml", "--set", "run.name=mine", "--set", "data.train=x.jsonl")
    assert found["entrypoint"] == "python -m jobs.finetune --config env:TUNEYARD_CONFIG"
    monkeypatch.setenv("TUNEYARD_CONFIG", found["runtime_env"]["env_vars"]["TUNEYARD_CONFIG"])
    there = load_config(FinetuneConfig, Path("env:TUNEYARD_CONFIG"))
    assert there.model_dump(mode="json") == found["config"]
    assert there.data.train == str(folder / "x.jsonl")


def test_the_deployment_of_a_run_must_serve_its_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo, serve = str(CONFIGS / "demo_cpu.yaml"), Path("serve_apps/configs/demo_cpu.yaml")
    found = dry_run(capsys, demo, "--deploy", str(serve))
    assert found["entrypoint"].endswith("""--set 'deploy="./serve_apps/configs/demo_cpu.yaml"'""")
    elsewhere = tmp_path / "a b #1: x.yaml"
    elsewhere.write_text(serve.read_text())
    found = dry_run(capsys, demo, "--deploy", str(elsewhere))
    assert found["entrypoint"].endswith("""--set 'deploy="env:TUNEYARD_DEPLOY_CONFIG"'""")
    deployed = yaml.safe_load(found["runtime_env"]["env_vars"]["TUNEYARD_DEPLOY_CONFIG"])
    assert deployed["models"] == yaml.safe_load(serve.read_text())["models"]
    assert main(["jobs", "submit", demo, "--deploy", str(serve), "--set", "run.model_name=other", "--dry-run"]) == 1
    assert "checkpoint: other@newest" in capsys.readouterr().err


def test_a_remote_cluster_needs_tuneyard_home(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TUNEYARD_HOME", raising=False)
    command = ["jobs", "submit", str(CONFIGS / "demo_cpu.yaml"), "--address", "http://head.example:8265", "--dry-run"]
    assert main(command) == 1
    assert "TUNEYARD_HOME is not set, and http://head.example:8265 is another machine" in capsys.readouterr().err
    monkeypatch.setenv("TUNEYARD_HOME", "/mnt/shared/tuneyard")
    assert main(command) == 0


def test_rehearse_runs_the_program_in_its_place(tmp_path: Path) -> None:
    """From any folder: with the same options, its exit code, and standard output for the JSON alone."""
    config = str((CONFIGS / "gpt_oss_20b_lora.yaml").resolve())
    options = ["--set", "training.lora.experts=true", "--json"]
    environment = os.environ | {"PYTHONPATH": str(Path("platform").resolve())}
    finished = subprocess.run(
        [sys.executable, "-m", "tuneyard.cli.main", "jobs", "rehearse", config, *options],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert finished.returncode == 1, finished.stderr
    report = json.loads(finished.stdout)
    assert report["failed_step"] == "config"
    assert "nemo does not support training.lora.experts" in report["steps"][0]["text"]
    assert "✗ config" in finished.stderr
    assert list(tmp_path.iterdir()) == []
