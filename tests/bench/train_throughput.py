"""Training tokens/s of a Ray job, compared with the same transformers.Trainer under torchrun, in alternation."""

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
    """Tokens/s with Ray and with torchrun after the first SKIPPED steps, and the ratio of each pair.

    The order within the pairs alternates.
    """
    with tempfile.TemporaryDirectory() as folder:
        overrides = [
            f"run.storage={folder}/home",
            f"training.max_steps={STEPS}",
            f"training.checkpoint_every_steps={STEPS}",
            f"training.eval_every_steps={STEPS}",
        ]
        launchers = {"torchrun": lambda named: _torchrun(Path(folder), named), "ray": _ray}
        rates: dict[str, list[float]] = {name: [] for name in launchers}
        for number in range(PAIRS):
            for name in sorted(launchers, reverse=number % 2 == 0):
                rates[name].append(launchers[name]([*overrides, f"run.name=bench-{number}"]))
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
    """Runs `jobs.finetune` as a process, as users do; reads the rates from the run's MLflow metrics."""
    import mlflow

    command = [sys.executable, "-m", "jobs.finetune", "--config", str(CONFIG), "--address", "local"]
    command += [word for override in overrides for word in ("--set", override)]
    home = next(o.split("=", 1)[1] for o in overrides if o.startswith("run.storage="))
    # A separate registry: in the user's own, the benchmark would become the newest model.
    registry = f"sqlite:///{home}/mlflow.db"
    subprocess.run(command, cwd=CHECKOUT, env=os.environ | {"MLFLOW_TRACKING_URI": registry}, check=True)
    client = mlflow.MlflowClient(registry)
    experiment = client.get_experiment_by_name("brindle-support")
    newest = client.search_runs([experiment.experiment_id], max_results=1)[0]
    points = client.get_metric_history(newest.info.run_id, "tokens_per_s")
    return _steady_rate([p.value for p in sorted(points, key=lambda p: p.step)])


def _steady_rate(rates: list[float]) -> float:
    # The harmonic mean: all steps have about the same number of tokens, so this averages their durations.
    return statistics.harmonic_mean(rates[SKIPPED:])
