"""Ray Train's worker group: creates one from a config, runs it, and turns its failures into TuneyardErrors."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from typing import Any

import ray.train
from ray.train.torch import TorchConfig, TorchTrainer

from jobs.workers.failure_policy import worker_error
from jobs.workers.lean_trainer import LeanTrainer
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import TrainingError, TuneyardError


def create_worker_group(
    config: FinetuneConfig,
    loop: Callable[[dict[str, Any]], None],
    loop_config: dict[str, Any],
    run_config: ray.train.RunConfig,
) -> TorchTrainer:
    """A trainer for the config's workers: they form one process group, and each calls `loop(loop_config)`."""
    workers = config.workers
    return LeanTrainer(
        loop,
        train_loop_config=loop_config,
        torch_config=TorchConfig(backend="nccl" if workers.use_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers.num_workers
            if len(workers.worker_counts) == 1
            else (workers.worker_counts[0], workers.worker_counts[-1]),
            use_gpu=workers.use_gpu,
            resources_per_worker=dict(workers.resource_request.per_process),
            placement_strategy="SPREAD" if workers.spread else "PACK",
        ),
        run_config=run_config,
    )


def fit(trainer: TorchTrainer) -> Any:
    """Runs the worker group and returns Ray Train's result.

    When the workers fail more often than the trainer allows, raises the TuneyardError that a worker raised, or else a
    TrainingError that shows the first failure. Ctrl-C raises KeyboardInterrupt.
    """
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    in_main_thread = threading.current_thread() is threading.main_thread()
    interrupt_handler = signal.getsignal(signal.SIGINT) if in_main_thread else None
    try:
        return trainer.fit()
    except ray.train.TrainingFailedError as e:
        raise _as_tuneyard_error(e) from e
    except SystemExit as e:
        # Ray Train's own SIGINT handler aborts the run and exits without a message.
        raise KeyboardInterrupt from e
    finally:
        if interrupt_handler is not None:
            signal.signal(signal.SIGINT, interrupt_handler)


def _as_tuneyard_error(error: ray.train.TrainingFailedError) -> TuneyardError:
    """The TuneyardError that a worker raised; a TrainingError that shows the first failure if there is none."""
    if (cause := worker_error(error)) is not None:
        return cause
    failures = list(getattr(error, "worker_failures", {}).values())
    return TrainingError(f"The workers failed: {failures[0] if failures else error}")
