"""Runs as jobs on a cluster of two nodes on this machine: how soon they train, and how soon again after a death."""

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
    """Seconds from submission to the first step, ours and a bare TorchTrainer's; from a worker's death to the next one;
    and how far the losses of an interrupted run are from those of a whole one, at most, relatively.
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
            _succeeds(whole)
        bare_s = _bare(nodes)
        with running(folder, nodes.home, *_submit(nodes, config, "cut")) as cut:
            state = nodes.home / "runs" / "cut" / "ray_train"
            cut.wait_for(lambda: last_step(state) >= 2 * EVERY, "second checkpoint")
            killed_at = time.time()
            nodes.kill_one("one", "RayTrainWorker")
            _succeeds(cut)
        losses = dict(logged_steps(nodes.home, "loss", "whole"))
        broken = dict(logged_steps(nodes.home, "loss", "cut"))
        return {
            "submit_to_first_step_s": ours_s,
            "bare_torch_trainer_s": bare_s,
            "ratio": ours_s / bare_s,
            "death_to_next_step_s": _first_after(nodes.home, killed_at),
            "largest_relative_loss_difference": max(abs(broken[s] - losses[s]) / losses[s] for s in losses),
        }


def _submit(nodes: Cluster, config: Path, name: str) -> tuple[str, ...]:
    return nodes.command("jobs", "submit", str(config), f"--set=run.name={name}", f"--set=run.model_name={name}")


def _succeeds(command: Command) -> None:
    code = command.process.wait(600)
    if code != 0:
        raise RuntimeError(command.output)


def _bare(nodes: Cluster) -> float:
    started = time.time()
    with job_client(nodes.address) as client:
        job = submit_job(client, f"python {BARE}", {}, {})
        while "first step" not in client.get_job_logs(job):
            if client.get_job_status(job) in ("FAILED", "STOPPED"):
                raise RuntimeError(client.get_job_logs(job))
            time.sleep(0.1)
    return time.time() - started


def _first_after(home: Path, killed_at: float) -> float:
    """By the registry's clock: a restart is where the step does not go up."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name("cut").experiment_id])
    points = sorted(client.get_metric_history(found.info.run_id, "loss"), key=lambda point: point.timestamp)
    after = next(later for earlier, later in itertools.pairwise(points) if later.step <= earlier.step)
    return float(after.timestamp / 1000 - killed_at)
