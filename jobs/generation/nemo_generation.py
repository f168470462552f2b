"""Generates completions from a run's NeMo checkpoint, on as many Ray workers as the run trains with."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jobs.generation.completions import parse_completion
from jobs.generation.prompts import Prompt
from jobs.nemo.checkpoint_folders import checkpoint_folder, finished_checkpoints, nemo_base
from jobs.nemo.generation import GenerationSettings, generate_per_worker
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.cluster.connection import connect_ray
from tuneyard.cluster.driver_channel import DriverChannel
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.config_loading import load_config
from tuneyard.core.errors import CheckpointError, ConfigError
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.planning.nemo_checks import check_nemo_config


def read_nemo_config(path: Path, overrides: Sequence[str]) -> FinetuneConfig:
    """The config of a run that trains with NeMo. Raises ConfigError for another backend."""
    config = load_config(FinetuneConfig, path, overrides)
    if config.training.backend != "nemo":
        raise ConfigError(
            f"{path}: training.backend is {config.training.backend}, but jobs.generate reads checkpoints of nemo only."
        )
    return config


def check_sampling(settings: GenerationSettings) -> None:
    """Raises ConfigError for settings that Megatron's inference engine does not accept."""
    if settings.top_p and settings.top_k:
        raise ConfigError(
            f"--top-p {settings.top_p} and --top-k {settings.top_k} cannot be combined in Megatron's engine. Give one "
            "of them."
        )


def choose_checkpoint(config: FinetuneConfig, checkpoint: Path | None) -> Path:
    """`checkpoint` if it is given, else the run's newest NeMo checkpoint, else the imported base.

    Raises CheckpointError when there is none, or the folder is not in NeMo 2 format.
    """
    if checkpoint is not None:
        checkpoint = checkpoint.resolve()
    else:
        base = nemo_base(config)
        candidates = [*([base] if base.exists() else []), *finished_checkpoints(checkpoint_folder(config))]
        if not candidates:
            raise CheckpointError(
                f"The run {config.run.name!r} has no NeMo checkpoint, and its base is not imported to {base}. "
                f"Import the base: python -m jobs.import_checkpoint hf://{config.model.folder} {base}"
            )
        checkpoint = candidates[-1]
    if not (checkpoint / "weights").is_dir():
        raise CheckpointError(
            f"--checkpoint {checkpoint}: this is not a checkpoint in NeMo 2 format, because it has no folder weights/."
        )
    return checkpoint


def generate_completions(
    config: FinetuneConfig,
    checkpoint: Path | None,
    prompts: Sequence[Prompt],
    settings: GenerationSettings,
    *,
    address: str | None = None,
    verbose: bool = False,
) -> list[dict[str, Any]]:
    """The parsed completions (see parse_completion) of the prompts, in their order.

    `checkpoint` is that of choose_checkpoint. Raises CheckpointError when there is none, ConfigError for a config that
    Megatron cannot run, ClusterError when the cluster cannot hold the workers, and TrainingError when the workers fail.
    """
    codec = HarmonyCodec.from_checkpoint(config.model.folder, config.codec)
    check_nemo_config(config, read_json(config.model.folder / "config.json"))
    checkpoint = choose_checkpoint(config, checkpoint)
    _print(f"from {checkpoint}")
    prompt_ids = [codec.render(prompt.messages, prompt.tools) for prompt in prompts]
    _print(f"Ray: {connect_ray(address, verbose=verbose)}")
    return [parse_completion(codec, ids) for ids in _generate_on_ray(config, checkpoint, prompt_ids, settings)]


def _generate_on_ray(
    config: FinetuneConfig, checkpoint: Path, prompts: list[list[int]], settings: GenerationSettings
) -> list[list[int]]:
    """The token ids of the completions. Ray must be connected."""
    # Only now, because these import Ray, which takes seconds: wrong arguments are reported at once.
    import ray.train

    from jobs.workers.placement import check_workers
    from jobs.workers.worker_group import create_worker_group, fit

    shortages = check_workers(config, "Generating")
    if shortages:
        _print(f"waiting for nodes: {shortages}")
    results = DriverChannel()
    folder = checkpoint_folder(config).parent
    name = f"generate-{time.time_ns()}"
    loop_config = {
        "config": config.model_dump_json(),
        "checkpoint": str(checkpoint),
        "prompts": prompts,
        "settings": asdict(settings),
        "results": results,
    }
    run_config = ray.train.RunConfig(name=name, storage_path=str(folder))
    try:
        fit(create_worker_group(config, generate_per_worker, loop_config, run_config))
        completions: list[list[int]] = results.receive()[-1]
    finally:
        results.close()
        shutil.rmtree(folder / name, ignore_errors=True)
    return completions


def _print(text: str) -> None:
    print(f"[generate] {text}", file=sys.stderr, flush=True)
