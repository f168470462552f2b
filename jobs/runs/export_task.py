"""The export of a trained checkpoint, as one Ray task with the resources of a worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray
import ray.exceptions
import ray.train

from jobs.checkpoints.probe_rows import PROBE_ROWS
from jobs.checkpoints.proved_export import ExportForm, export_and_prove, exported_name
from jobs.nemo.setup.exact_arithmetic import TF32_OFF
from jobs.runs.prepared_run import PreparedRun
from jobs.runs.ray_training import TrainOutcome
from jobs.workers.backend_factory import create_backend
from jobs.workers.local_base import with_local_base
from tuneyard.checkpoints.layout.adapter import is_adapter
from tuneyard.checkpoints.manifest import BaseReference, CheckpointManifest, CodecReference, DatasetReference
from tuneyard.checkpoints.node_cache import release
from tuneyard.checkpoints.publishing import next_version_location, version_in
from tuneyard.checkpoints.safety.hub_access import disable_hub_access
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.configs.workers import WorkersConfig
from tuneyard.core.errors import TuneyardError
from tuneyard.storage.location import child_location
from tuneyard.training_data.token_store import open_token_rows
from tuneyard.training_data.token_table import TOKEN_COLUMNS

MANIFEST_METRICS = ("step", "epoch", "loss", "eval_loss", "eval_reward_margin", "eval_preference_accuracy")
"""The metrics of a run that its manifest keeps."""


def export_on_ray(
    config: FinetuneConfig,
    prepared: PreparedRun,
    outcome: TrainOutcome,
    run_id: str | None,
    form: ExportForm = "merged",
) -> tuple[CheckpointManifest, str]:
    """Exports, proves and publishes the trained checkpoint; returns its manifest and its location.

    Runs as a Ray task on a node that has a worker's resources. Raises the TuneyardErrors of export_and_prove.
    """
    probes = prepared.heldout_tokens if prepared.heldout_tokens is not None else prepared.train_tokens
    stored = open_token_rows(probes.path).select_columns(list(TOKEN_COLUMNS))
    rows = stored.select(range(min(PROBE_ROWS, len(stored)))).to_list()
    models = child_location(config.run.storage, "models", exported_name(config, form))
    target = next_version_location(models, run_id or config.run.name)
    options = _task_options(config.workers)
    if config.training.backend == "nemo":
        options["runtime_env"] = {"env_vars": TF32_OFF}
    task = ray.remote(_export_task).options(**options, max_retries=0)
    lineage = _lineage(config, prepared, outcome, run_id)
    try:
        return ray.get(task.remote(config, outcome.checkpoint, target, rows, lineage, form)), target
    except ray.exceptions.RayTaskError as e:
        if isinstance(e.cause, TuneyardError):
            raise e.cause from e
        raise


def _lineage(
    config: FinetuneConfig, prepared: PreparedRun, outcome: TrainOutcome, run_id: str | None
) -> dict[str, Any]:
    """The manifest's fields that say what the checkpoint was made from."""
    return {
        "base": BaseReference(name=version_in(config.model.base), digest=prepared.base_digest),
        "dataset": DatasetReference(
            fingerprint=prepared.dataset_fingerprint,
            rows=prepared.train.rows,
            files=tuple(str(path) for path in (config.data.train, config.data.heldout) if path),
            dropped=dict(prepared.train.counts.dropped),
            problems=dict(prepared.train.counts.of("warning", "note")),
        ),
        "codec": CodecReference(settings=config.codec.model_dump(mode="json"), fingerprint=prepared.codec_fingerprint),
        "parity": [row.model_dump(mode="json", exclude_defaults=True) for row in prepared.parity_rows],
        "metrics": {name: value for name, value in outcome.metrics.items() if name in MANIFEST_METRICS},
        "run_id": run_id,
        "config": config.model_dump(mode="json"),
    }


def _task_options(workers: WorkersConfig) -> dict[str, Any]:
    """A worker's resources, as options of a Ray task."""
    each = dict(workers.resource_request.per_process)
    named_options = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
    options: dict[str, Any] = {option: each.pop(name) for name, option in named_options.items() if name in each}
    return options | {"resources": each}


def _export_task(
    config: FinetuneConfig,
    trained: ray.train.Checkpoint,
    target: str,
    rows: list[dict[str, list[int]]],
    lineage: dict[str, Any],
    form: ExportForm,
) -> CheckpointManifest:
    disable_hub_access()
    local_config = with_local_base(config)
    try:
        with trained.as_directory() as folder:
            backend = create_backend(_config_to_load(local_config, Path(folder)))
            return export_and_prove(backend, local_config, Path(folder), target, rows, lineage, form)
    finally:
        # Ray keeps this process after the task, so the base would stay in use in the node's cache.
        release(local_config.model.folder)


def _config_to_load(config: FinetuneConfig, folder: Path) -> FinetuneConfig:
    """The config whose backend reads the checkpoint: an adapter in PEFT's files is read by transformers and PEFT."""
    if not is_adapter(folder):
        return config
    training = config.training.model_copy(update={"backend": "transformers"})
    return config.model_copy(update={"training": training})
