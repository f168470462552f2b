"""Finetuning with two Ray Train workers: export, proof, registry; a killed worker, Ctrl-C, resume; refusals."""

from __future__ import annotations

import contextlib
import itertools
import json
from pathlib import Path

import mlflow
import pytest

from tests.integration.conftest import STEPS, Finetuned, finetune_command, write_finetune_config
from tests.integration.processes import Command, run, running
from tuneyard.checkpoints.registry import ModelRegistry
from tuneyard.checkpoints.validation import validate_hf_checkpoint

pytestmark = pytest.mark.integration


def logged_steps(home: Path, metric: str, model: str = "tiny-support") -> list[tuple[int, float]]:
    """The (step, value) points of a metric of a model's only run, in the order in which they were logged."""
    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(model)
    (only_run,) = client.search_runs([experiment.experiment_id])
    points = sorted(client.get_metric_history(only_run.info.run_id, metric), key=lambda point: point.timestamp)
    return [(point.step, point.value) for point in points]


def test_the_result_is_proved_and_registered(finetuned: Finetuned, tiny_oss: Path) -> None:
    manifest = validate_hf_checkpoint(finetuned.checkpoint, base=tiny_oss)
    assert manifest.proof["mean_kl"] < 0.01
    assert manifest.base is not None
    assert manifest.dataset is not None
    assert manifest.dataset.rows == 30
    version = ModelRegistry(finetuned.home).find("tiny-support@newest")
    assert version.checkpoint == str(finetuned.checkpoint)
    assert version.tags["weights_digest"] == manifest.digest
    assert version.tags["base_digest"] == manifest.base.digest
    assert version.run_id == manifest.run_id
    assert "registered tiny-support/1" in finetuned.output


def test_every_step_is_logged_once_and_the_loss_falls(finetuned: Finetuned) -> None:
    losses = logged_steps(finetuned.home, "loss")
    assert [step for step, _ in losses] == list(range(1, STEPS + 1))
    assert losses[-1][1] < losses[0][1]
    assert [step for step, _ in logged_steps(finetuned.home, "eval_loss")] == [6, 12]
    for metric in ("learning_rate", "grad_norm", "tokens_per_s"):
        assert len(logged_steps(finetuned.home, metric)) == STEPS


def test_a_finished_run_is_not_repeated_and_changed_settings_are_refused(finetuned: Finetuned) -> None:
    code, output = run(finetuned.folder, finetuned.home, *finetune_command(finetuned.config))
    assert code == 0
    assert "is already done: tiny-support/1" in output
    changed = finetune_command(finetuned.config, "--set", "training.learning_rate=0.1")
    code, output = run(finetuned.folder, finetuned.home, *changed)
    assert code == 1
    assert "was started with other data, base, codec or training settings" in output
    assert "Traceback" not in output


def test_a_run_continues_after_a_killed_worker_and_after_ctrl_c(tiny_oss: Path, tmp_path: Path) -> None:
    """One worker is killed after the first checkpoint, Ctrl-C comes at step 20, and the same command finishes the run.

    With packed rows.
    """
    config = write_finetune_config(tmp_path, tiny_oss, max_steps=40, checkpoint_every_steps=5, batch_size_per_worker=1)
    config.write_text(config.read_text().replace("max_length: 1024", "max_length: 512\n  batching: packed"))
    home = tmp_path / "home"
    state = home / "runs" / "tiny" / "ray_train"

    with running(tmp_path, home, *finetune_command(config)) as command:
        # Ray uses a checkpoint only if the snapshot of its checkpoint manager names it.
        snapshot = state / "checkpoint_manager_snapshot.json"
        command.wait_for(lambda: snapshot.exists() and "checkpoint_" in snapshot.read_text(), "first checkpoint")
        assert unneeded_ray_processes(command) == []
        command.kill_training_worker()
        command.wait_for(lambda: last_step(state) >= 20, "step 20 after a worker was killed")
        assert command.interrupt() == 130, command.output
        assert "run the same command again to continue" in command.output
    resumed_from = last_step(state)
    code, output = run(tmp_path, home, *finetune_command(config))
    assert code == 0, output
    steps = [step for step, _ in logged_steps(home, "loss")]
    assert set(steps) == set(range(1, 41))
    # A repeated step has the rows of its epoch, so the same loss. Both interruptions are in the middle of an epoch.
    first: dict[int, float] = {}
    for step, loss in logged_steps(home, "loss"):
        assert loss == pytest.approx(first.setdefault(step, loss), rel=1e-5), step
    # No step is repeated if the run is cut before the step after a checkpoint.
    restarts = [step for before, step in itertools.pairwise(steps) if step <= before]
    assert all(step > 5 for step in restarts), "the run started again at its beginning"
    assert steps[-1] == 40
    # The second command continued from the last checkpoint of the first one.
    assert steps[len(steps) - (40 - resumed_from) :] == list(range(resumed_from + 1, 41))


def unneeded_ray_processes(command: Command) -> list[str]:
    """The running ones of those processes that Ray starts by default and a private Ray does not need."""
    names = ("DatasetManager", "PlacementGroupCleaner", "AutoscalingCoordinator", "monitor.py", "dashboard.py")
    return [name for name in names if command.descendants(name)]


def last_step(state: Path) -> int:
    """The step of the newest checkpoint in Ray Train's folder of a run; 0 if there is none."""
    steps = [0]
    for path in state.glob("checkpoint_*/trainer_state.json"):
        with contextlib.suppress(json.JSONDecodeError):  # while it is being copied
            steps.append(json.loads(path.read_text())["global_step"])
    return max(steps)


def test_a_loss_that_is_not_finite_is_not_tried_again(tiny_oss: Path, tmp_path: Path) -> None:
    """A thousand failures are allowed; the run would not end within the test's time."""
    config = write_finetune_config(tmp_path, tiny_oss)
    settings = ("training.method=full", "training.learning_rate=1e30", "training.max_grad_norm=1e30")
    options = [word for each in (*settings, "workers.max_failures=1000") for word in ("--set", each)]
    code, output = run(tmp_path, tmp_path / "home", *finetune_command(config, *options))
    assert code == 1
    assert "Lower training.learning_rate (now 1e+30)" in output
    assert "Traceback" not in output


def test_workers_that_can_never_be_placed_are_refused_at_once(tiny_oss: Path, tmp_path: Path) -> None:
    config = write_finetune_config(tmp_path, tiny_oss)
    command = finetune_command(config, "--set", "workers.num_workers=4000")
    code, output = run(tmp_path, tmp_path / "home", *command)
    assert code == 1
    assert "can never be placed on this Ray cluster as it is: CPU: 4000 needed" in output
    assert "Traceback" not in output


def test_bad_data_is_refused_before_ray_starts(tiny_oss: Path, tmp_path: Path) -> None:
    config = write_finetune_config(tmp_path, tiny_oss)
    train = config.parent / "train.jsonl"
    train.write_text(train.read_text() + "{broken\n")
    code, output = run(tmp_path, tmp_path / "home", *finetune_command(config))
    assert code == 1
    assert "train.jsonl:31: not valid JSON" in output
    assert "Ray:" not in output
    assert "Traceback" not in output
    assert not (tmp_path / "home" / "runs").exists()
