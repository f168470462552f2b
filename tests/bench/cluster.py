"""Start time of a submitted run, and its recovery time after a killed worker, on a cluster on this machine."""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

from jobs.bases.tiny_oss import build_tiny_oss
from tests.integration.clusters import Cluster, cluster
from tests.integration.conftest import write_finetune_config
from tests.integration.processes import CHECKOUT, Command, running
from tests.integration.test_finetune_on_ray import last_step, logged_steps
from tuneyard.cluster.job_client import job_client, submit_job

STEPS, EVERY = 60, 10
BARE = CHECKOUT / "tests" / "bench" / "bare_trainer.py"


def run() -> dict[str, Any]:
    """Measures a run, a bare TorchTrainer, and a run whose worker is killed.

    The result has the seconds from submission to the first step, the seconds from the worker's death to the next step,
    and the largest relative difference between the losses of the interrupted and the whole run.
    """
    with tempfile.TemporaryDirectory() as text, cluster(Path(text)) as nodes:
        folder = Path(text)
        nodes.join("one")
        base = folder / "tiny"
        build_tiny_oss(base)
        config = write_finetune_config(folder, base, max_steps=STEPS, checkpoint_every_steps=EVERY)
        submitted_at = time.time()
        with running(folder, nodes.home, *_submit(nodes, config, "whole")) as whole:
            whole.wait_for(lambda: "training: step" in whole.output, "first step")
            ours_s = time.time() - submitted_at
            _wait_for_success(whole)
        bare_s = _bare_trainer_s(nodes)
        with running(folder, nodes.home, *_submit(nodes, config, "cut")) as cut:
            state = nodes.home / "runs" / "cut" / "ray_train"
            cut.wait_for(lambda: last_step(state) >= 2 * EVERY, "second checkpoint")
            killed_at = time.time()
            nodes.kill_process("one", "RayTrainWorker")
            _wait_for_success(cut)
        losses = dict(logged_steps(nodes.home, "loss", "whole"))
        interrupted = dict(logged_steps(nodes.home, "loss", "cut"))
        return {
            "submit_to_first_step_s": ours_s,
            "bare_torch_trainer_s": bare_s,
            "ratio": ours_s / bare_s,
            "death_to_next_step_s": _recovery_s(nodes.home, killed_at),
            "largest_relative_loss_difference": max(abs(interrupted[s] - losses[s]) / losses[s] for s in losses),
        }


def _submit(nodes: Cluster, config: Path, name: str) -> tuple[str, ...]:
    return nodes.command("jobs", "submit", str(config), f"--set=run.name={name}", f"--set=run.model_name={name}")


def _wait_for_success(command: Command) -> None:
    code = command.process.wait(600)
    if code != 0:
        raise RuntimeError(command.output)


def _bare_trainer_s(nodes: Cluster) -> float:
    """Seconds from submission to the first step of a bare TorchTrainer."""
    started = time.time()
    with job_client(nodes.address) as client:
        job = submit_job(client, f"python {BARE}", {}, {})
        while "first step" not in client.get_job_logs(job):
            if client.get_job_status(job) in ("FAILED", "STOPPED"):
                raise RuntimeError(client.get_job_logs(job))
            time.sleep(0.1)
    return time.time() - started


def _recovery_s(home: Path, killed_at: float) -> float:
    """Seconds from `killed_at` to the first step after the restart, by MLflow's timestamps.

    The restart is where the step number does not increase.
    """
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    (only_run,) = client.search_runs([client.get_experiment_by_name("cut").experiment_id])
    points = sorted(client.get_metric_history(only_run.info.run_id, "loss"), key=lambda point: point.timestamp)
    after = next(later for earlier, later in itertools.pairwise(points) if later.step <= earlier.step)
    return float(after.timestamp / 1000 - killed_at)
