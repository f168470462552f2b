"""The Ray job against the same transformers.Trainer under plain torchrun: tokens/s, alternating, in one run."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from jobs.runs.preflight import prepare_run
from tuneyard.cluster.connection import CHECKOUT
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.config_loading import load_config
from tuneyard.core.home import tuneyard_home

STEPS, SKIPPED, PAIRS = 30, 5, 6
CONFIG = CHECKOUT / "jobs" / "configs" / "demo_cpu.yaml"


def run() -> dict[str, Any]:
    """Tokens/s of each way over all steps but the first SKIPPED, and the ratio of each pair, whose order alternates."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = [
            f"run.storage={folder}/home",
            f"training.max_steps={STEPS}",
            f"training.checkpoint_every_steps={STEPS}",
            f"training.eval_every_steps={STEPS}",
        ]
        ways = {"torchrun": lambda named: _torchrun(Path(folder), named), "ray": _ray}
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(PAIRS):
            for way in sorted(ways, reverse=number % 2 == 0):
                rates[way].append(ways[way]([*overrides, f"run.name=bench-{number}"]))
    ratios = [ray / torchrun for ray, torchrun in zip(rates["ray"], rates["torchrun"], strict=True)]
    return {"tokens_per_s": rates, "ratios_ray_to_torchrun": ratios, "mean_ratio": statistics.mean(ratios)}


def _torchrun(folder: Path, overrides: list[str]) -> float:
    config = load_config(FinetuneConfig, CONFIG, overrides)
    tokens = prepare_run(config).train_tokens.path
    log = folder / "torchrun.log"
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(config.workers.num_workers)]
    command += ["-m", "tests.bench.torchrun_worker", str(CONFIG), str(tokens), str(log), *overrides]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TUNEYARD_HOME": str(tuneyard_home())}
    subprocess.run([sys.executable, *command], cwd=CHECKOUT, env=environment, check=True)
    return _steady_rate([float(line) for line in log.read_text().split()])


def _ray(overrides: list[str]) -> float:
    """In a process of its own, as a user starts it; the rates come back through the run's MLflow metrics."""
    import mlflow

    command = [sys.executable, "-m", "jobs.finetune", "--config", str(CONFIG), "--address", "local"]
    command += [part for override in overrides for part in ("--set", override)]
    home = next(o.split("=", 1)[1] for o in overrides if o.startswith("run.storage="))
    # Not the person's own registry, whose newest model it would become.
    registry = f"sqlite:///{home}/mlflow.db"
    subprocess.run(command, cwd=CHECKOUT, env=os.environ | {"MLFLOW_TRACKING_URI": registry}, check=True)
    client = mlflow.MlflowClient(registry)
    experiment = client.get_experiment_by_name("brindle-support")
    newest = client.search_runs([experiment.experiment_id], max_results=1)[0]
    points = client.get_metric_history(newest.info.run_id, "tokens_per_s")
    return _steady_rate([p.value for p in sorted(points, key=lambda p: p.step)])


def _steady_rate(rates: list[float]) -> float:
    # Harmonic: steps hold about as many tokens each, so the mean is of the times.
    return statistics.harmonic_mean(rates[SKIPPED:])
