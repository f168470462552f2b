"""A run in the model registry: its parameters, the registered version, and whether it is already there."""

from __future__ import annotations

from pydantic import ValidationError

from jobs.runs.prepared_run import PreparedRun
from jobs.runs.run_record import RunFolder, RunRecord
from tuneyard.checkpoints.manifest import MANIFEST_NAME, CheckpointManifest
from tuneyard.checkpoints.registry import METRIC_TAG, NEWEST, RUN_FOLDER, TRAIN_TOKENS, ModelRegistry, ModelVersion
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.storage.folder import StorageFolder
from tuneyard.storage.location import child_location


def find_finished_version(record: RunRecord, registry: ModelRegistry, config: FinetuneConfig) -> ModelVersion | None:
    """The version that this run registered; None when it registered none, or its checkpoint was deleted."""
    if record.version is None or record.checkpoint is None:
        return None
    if StorageFolder.open(record.checkpoint).size_of(MANIFEST_NAME) is None:
        return None
    return registry.find(f"{config.run.model_name}/{record.version}")


def find_published(config: FinetuneConfig, run_id: str, step: float | None) -> tuple[CheckpointManifest, str] | None:
    """The checkpoint that this run has published at this step, and its location: it was killed before it wrote down
    its version. None if there is none."""
    models = StorageFolder.open(child_location(config.run.storage, "models", config.run.model_name))
    for name in models.names():
        content = models.child(name).read(MANIFEST_NAME) if name[:1].isdigit() else None
        try:
            manifest = CheckpointManifest.model_validate_json(content) if content is not None else None
        except ValidationError:
            continue  # of another release, so not of this run
        if manifest is not None and manifest.run_id == run_id and manifest.metrics.get("step") == step is not None:
            return manifest, models.child(name).location
    return None


def run_params(config: FinetuneConfig, prepared: PreparedRun) -> dict[str, str]:
    """The run's parameters in the registry: training settings, base, data and its tokens, codec, number of workers,
    folder."""
    training = {f"training.{name}": str(value) for name, value in config.training.model_dump(mode="json").items()}
    return training | {
        "base": config.model.base,
        "base_digest": prepared.base_digest,
        "dataset_fingerprint": prepared.dataset_fingerprint,
        "codec_fingerprint": prepared.codec_fingerprint,
        "num_workers": str(config.workers.num_workers),
        RUN_FOLDER: RunFolder(config).location,
        TRAIN_TOKENS: str(prepared.train_tokens.tokens),
    }


def register_checkpoint(
    registry: ModelRegistry,
    config: FinetuneConfig,
    manifest: CheckpointManifest,
    target: str,
    record: RunRecord,
    alias: str | None = NEWEST,
) -> ModelVersion:
    """Registers the published checkpoint at `target` with its lineage as tags, moves the alias to the version unless it
    is None, and notes the version in `record`.

    May be repeated by a run that was killed before it saved the record: see ModelRegistry.register.
    """
    assert manifest.dataset is not None
    assert manifest.codec is not None
    assert manifest.base is not None
    tags = {
        "dataset_fingerprint": manifest.dataset.fingerprint,
        "codec_fingerprint": manifest.codec.fingerprint,
        "base_digest": manifest.base.digest,
        "base_name": manifest.base.name,
        "weights_digest": manifest.digest,
        "run_name": config.run.name,
        "git_commit": manifest.git_commit or "none",
        **({"kind": "adapter"} if manifest.kind == "adapter" else {}),
        **{f"{METRIC_TAG}{name}": _number(value) for name, value in manifest.metrics.items()},
    }
    version = registry.register(manifest.name, target, record.mlflow_run_id, tags, alias)
    record.checkpoint, record.version = target, version.version
    return version


def _number(value: float) -> str:
    """Whole numbers, such as a step's, with all their digits; others with 6."""
    return str(int(value)) if float(value).is_integer() else f"{value:g}"
