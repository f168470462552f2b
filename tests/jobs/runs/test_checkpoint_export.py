"""Which checkpoint jobs.export takes, and what it says when there is none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.export import main
from jobs.runs.checkpoint_export import find_checkpoint, linked_checkpoint
from jobs.runs.run_record import RunFolder
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import CheckpointError, ConfigError, TrainingError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run without checkpoints."""
    config = FinetuneConfig.model_validate(
        {
            "run": {"name": "r", "model_name": "m", "storage": str(tmp_path)},
            "model": {"base": "b"},
            "data": {"train": "t"},
        }
    )
    folder, record = RunFolder.open(config, "a" * 64)
    record.mlflow_run_id = "id"
    folder.save(record)
    return tmp_path / "runs" / "r"


def add_checkpoint(run: Path, name: str) -> Path:
    folder = run / "ray_train" / name
    folder.mkdir(parents=True)
    return folder


def test_a_run_gives_its_newest_checkpoint_and_a_checkpoint_itself(run: Path) -> None:
    first, last = (add_checkpoint(run, f"checkpoint_2026-11-27_17-11-0{second}.5") for second in (3, 4))
    results = [
        {"checkpoint_dir_name": folder.name, "metrics": {"step": step}} for step, folder in ((4, first), (8, last))
    ]
    (run / "ray_train" / "checkpoint_manager_snapshot.json").write_text(json.dumps({"checkpoint_results": results}))
    newest, chosen = find_checkpoint(run, None, []), find_checkpoint(first, None, [])
    assert (newest.folder, newest.metrics, newest.run_id) == (last, {"step": 8}, "id")
    assert (chosen.folder, chosen.metrics, chosen.config) == (first, {"step": 4}, newest.config)


def test_a_checkpoint_that_is_still_written_is_not_the_newest(run: Path) -> None:
    """Ray Train copies the files of a checkpoint into its folder, and lists the folder when it is complete."""
    complete = add_checkpoint(run, "checkpoint_2026-11-27_17-11-03.5")
    add_checkpoint(run, "checkpoint_2026-11-27_17-11-04.5")
    state = {"checkpoint_results": [{"checkpoint_dir_name": complete.name, "metrics": {"step": 4}}]}
    (run / "ray_train" / "checkpoint_manager_snapshot.json").write_text(json.dumps(state))
    assert find_checkpoint(run, None, []).folder == complete


def test_a_run_that_goes_on_may_delete_the_checkpoint_that_is_exported(run: Path) -> None:
    folder = add_checkpoint(run, "checkpoint_2026-11-27_17-11-03.5")
    (folder / "adapter_model.safetensors").write_text("weights")
    snapshot = run / "ray_train" / "checkpoint_manager_snapshot.json"
    snapshot.write_text(
        json.dumps({"checkpoint_results": [{"checkpoint_dir_name": folder.name, "metrics": {"step": 4}}]})
    )
    found = find_checkpoint(run, None, [])
    with linked_checkpoint(found) as links:
        shutil.rmtree(folder)
        assert (links / "adapter_model.safetensors").read_text() == "weights"
    assert list((run / "exports").iterdir()) == []
    snapshot.write_text(json.dumps({"checkpoint_results": []}))
    folder.mkdir()  # its deletion has begun
    for _ in range(2):
        message = "keeps its last 2 checkpoints, and has deleted this one meanwhile"
        with pytest.raises(CheckpointError, match=message), linked_checkpoint(found):
            pass
        shutil.rmtree(folder, ignore_errors=True)
    assert list((run / "exports").iterdir()) == []


def test_a_nemo_checkpoint_has_the_step_of_its_name(run: Path) -> None:
    folder = run / "nemo" / "step-0000300"
    folder.mkdir(parents=True)
    assert find_checkpoint(folder, None, []).metrics == {"step": 300.0}


def test_a_stored_config_of_another_version_is_an_error_with_a_way_out(run: Path) -> None:
    add_checkpoint(run, "checkpoint_2026-11-27_17-11-03.5")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"later": 1}))
    with pytest.raises(ConfigError, match=r"config\.json: 1 problem\n.*later: unknown field") as e:
        find_checkpoint(run, None, [])
    assert "another version of Tuneyard. Give the run's config with --config" in str(e.value)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"inputs_fingerprint": "0", "later": 1}', b"\xff"])
def test_a_record_that_cannot_be_read_is_an_error_with_a_way_out(run: Path, content: bytes) -> None:
    folder = run / "nemo" / "step-0000300"
    folder.mkdir(parents=True)
    (run / "run.json").write_bytes(content)
    with pytest.raises(TrainingError, match=r"(?s)run\.json is damaged, or of another version.*out of this folder"):
        find_checkpoint(folder, None, [])


def lora_checkpoint(folder: Path) -> Path:
    """The files that transformers' Trainer writes for a run with LoRA; their content does not matter here."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8}))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    for state in ("optimizer.pt", "scheduler.pt", "rng_state_0.pth", "rng_state.pth", "training_args.bin"):
        (folder / state).write_bytes(b"\x80\x02")
    return folder


UNSAFE: dict[str, tuple[Callable[[Path], object], str]] = {
    "code by the adapter's config": (
        lambda f: (f / "adapter_config.json").write_text(
            json.dumps({"r": 4, "lora_alpha": 8, "auto_mapping": {"a": 1}})
        ),
        "auto_mapping is",
    ),
    "a pickle for the weights": (
        lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"),
        "adapter_model.bin is in a format",
    ),
    "a kernel in the model's config": (
        lambda f: (f / "config.json").write_text(json.dumps({"_attn_implementation_internal": "evil/kernel"})),
        "_attn_implementation_internal is 'evil/kernel'",
    ),
    "a model elsewhere": (
        lambda f: (f / "config.json").write_text("{}"),
        "adapter_config.json: transformers would load",
    ),
    "a link": (lambda f: (f / "model.safetensors").symlink_to("/etc/passwd"), "is a symbolic link out of the folder"),
}


@pytest.mark.parametrize("kind", list(UNSAFE))
def test_a_checkpoint_that_would_run_code_is_refused(kind: str, run: Path, tmp_path: Path) -> None:
    """Given with a config, it may come from anywhere. Its optimizer's state is a pickle too, and is not read."""
    config = tmp_path / "config.json"
    config.write_text((run / "config.json").read_text())
    folder = lora_checkpoint(tmp_path / "foreign")
    assert find_checkpoint(folder, config, []).folder == folder
    change, refusal = UNSAFE[kind]
    change(folder)
    with pytest.raises(CheckpointError, match="is not safe to load") as caught:
        find_checkpoint(folder, config, [])
    assert refusal in str(caught.value)


def test_full_finetuning_has_no_adapter(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads((run / "config.json").read_text())
    config["training"]["method"] = "full"
    (tmp_path / "config.json").write_text(json.dumps(config))
    folder = add_checkpoint(run, "checkpoint_2026-11-27_17-11-03.5")
    assert main([str(folder), "--config", str(tmp_path / "config.json"), "--form", "adapter"]) == 1
    assert "training.method is full, which changes every weight, so there is no adapter" in capsys.readouterr().err


def test_what_cannot_be_exported_is_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CheckpointError, match=r"this run has no checkpoint yet. It writes one every training\."):
        find_checkpoint(run, None, [])
    with pytest.raises(CheckpointError, match=r"no such folder\. Give the folder of a run"):
        find_checkpoint(tmp_path / "nowhere", None, [])
    with pytest.raises(ConfigError, match=r"does not lie in the folder of a run.*Add --config FILE"):
        find_checkpoint(tmp_path, None, [])
    with pytest.raises(ConfigError, match="--set changes fields of --config"):
        find_checkpoint(run, None, ["run.model_name=x"])
    assert main(["s3://bucket/models/m-adapter/1"]) == 1
    assert "s3://bucket/models/m-adapter/1: a checkpoint to export must be a folder" in capsys.readouterr().err
    assert main([str(tmp_path / "nowhere")]) == 1
    assert "no such folder" in capsys.readouterr().err
