"""Exports and registers one checkpoint of a run, whether the run is done or not."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.checkpoints.proved_export import ExportForm
from jobs.nemo.checkpoint_folders import checkpoint_folder, finished_checkpoints, write_pointer
from jobs.runs.preflight import prepare_run
from jobs.runs.run_record import RECORD_NAME, TRAIN_STATE, RunFolder, RunRecord
from jobs.workers.local_base import with_local_base
from tuneyard.checkpoints.layout.adapter import is_adapter
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.checkpoints.manifest import MANIFEST_NAME, CheckpointManifest
from tuneyard.checkpoints.registry import ModelRegistry, ModelVersion
from tuneyard.checkpoints.safety.checkpoint_safety import check_trained_safety
from tuneyard.checkpoints.staging import staging_folder
from tuneyard.checkpoints.validation import validate_adapter
from tuneyard.cluster.connection import connect_ray
from tuneyard.configs.finetune import CONFIG_NAME, FinetuneConfig
from tuneyard.core.config_loading import load_config, parse_config
from tuneyard.core.errors import CheckpointError, ConfigError
from tuneyard.core.wording import count_of
from tuneyard.storage.location import is_uri

SNAPSHOT = "checkpoint_manager_snapshot.json"
"""File in which Ray Train keeps the metrics of a run's checkpoints (Ray 2.60)."""


@dataclass(frozen=True, slots=True)
class FoundCheckpoint:
    """A checkpoint to export, and the config of its run."""

    config: FinetuneConfig
    folder: Path
    """A folder that the run's backend reported, or a NeMo checkpoint."""
    metrics: dict[str, float]
    """The metrics that were reported with it; `step` alone for a NeMo checkpoint that no run reported."""
    run_id: str | None
    """The run in the model registry; None if there is none."""
    adapter: CheckpointManifest | None = None
    """The manifest, if the checkpoint is an adapter that was exported before; it is then merged."""


def find_checkpoint(source: str | Path, config_path: Path | None, overrides: Sequence[str]) -> FoundCheckpoint:
    """The checkpoint that `source` names: a checkpoint folder, the newest one of a run's folder, an exported adapter.

    `config_path` None reads the config in the run's folder, or in the adapter's manifest. Raises CheckpointError if
    there is no such checkpoint or if it is not safe to load, and ConfigError if no config belongs to it.
    """
    if is_uri(str(source)):
        raise CheckpointError(
            f"{source}: a checkpoint to export must be a folder, and this is a URI. Copy it first, an adapter with "
            "`tuneyard models copy URI FOLDER`."
        )
    source = Path(source).expanduser().absolute()
    if not source.is_dir():
        raise CheckpointError(f"{source}: no such folder. Give the folder of a run or of one of its checkpoints.")
    run = next((folder for folder in (source, *source.parents) if (folder / RECORD_NAME).is_file()), None)
    adapter = validate_adapter(source) if is_adapter(source) and (source / MANIFEST_NAME).is_file() else None
    if config_path is not None:
        config = load_config(FinetuneConfig, config_path, overrides)
    elif overrides:
        raise ConfigError("--set changes fields of --config, and none was given. Give the run's config too.")
    elif adapter is not None:
        config = _stored_config(adapter.config, source / MANIFEST_NAME)
    elif run is not None and (run / CONFIG_NAME).is_file():
        config = _stored_config(read_json(run / CONFIG_NAME), run / CONFIG_NAME)
    else:
        raise ConfigError(
            f"{source} does not lie in the folder of a run of Tuneyard, so its config is unknown. Add --config FILE."
        )
    if adapter is not None:
        return FoundCheckpoint(config, source, adapter.metrics, adapter.run_id, adapter)
    folder = _newest_checkpoint(source, config) if source == run else source
    if config.training.backend == "transformers":
        check_trained_safety(folder)
    return FoundCheckpoint(config, folder, _metrics_of(folder, run), _run_id(run) if run is not None else None)


def _run_id(run: Path) -> str | None:
    path = run / RECORD_NAME
    fix = "To export the checkpoint without its run's name in MLflow, copy it out of this folder and give --config."
    return RunRecord.parse(path.read_bytes(), str(path), fix).mlflow_run_id


def _stored_config(data: object, path: Path) -> FinetuneConfig:
    """The run's config from a file beside its weights. Raises ConfigError if this version cannot read it."""
    try:
        return parse_config(FinetuneConfig, data, path)
    except ConfigError as e:
        raise ConfigError(
            f"{e}\nThis is no run's config, or one of another version of Tuneyard. Give the run's config with --config."
        ) from e


def export_checkpoint(
    found: FoundCheckpoint, form: ExportForm = "merged", *, address: str | None = None, verbose: bool = False
) -> ModelVersion:
    """Exports, proves, publishes and registers the checkpoint as a new version of its model. Prints its steps.

    An adapter becomes a version of `MODEL-adapter`. Raises ConfigError for the adapter of a run without LoRA, and what
    export_on_ray raises; nothing is published then.
    """
    if form == "adapter":
        _check_has_adapter(found)
    with linked_checkpoint(found) as folder:
        return _export(found, folder, form, address=address, verbose=verbose)


def _export(
    found: FoundCheckpoint, folder: Path, form: ExportForm, *, address: str | None, verbose: bool
) -> ModelVersion:
    """See export_checkpoint. `folder` holds the checkpoint's files."""
    _print(f"validating the run's data and config; exporting {found.folder}")
    prepared = prepare_run(with_local_base(found.config, weights=False))
    trained_from = found.adapter.base if found.adapter is not None else None
    if trained_from is not None and trained_from.digest != prepared.base_digest:
        raise CheckpointError(
            f"{found.folder} is an adapter for {trained_from.name} (weights {trained_from.digest[:12]}…), but "
            f"{found.config.model.base} holds other weights ({prepared.base_digest[:12]}…). Restore the base."
        )
    _print(f"Ray: {connect_ray(address, verbose=verbose)}")
    # Only now, because these import Ray, which takes seconds: a wrong path is reported at once.
    import ray.train

    from jobs.runs.export_task import export_on_ray
    from jobs.runs.ray_training import TrainOutcome
    from jobs.runs.registration import register_checkpoint

    outcome = TrainOutcome(ray.train.Checkpoint(str(_reported_folder(found, folder))), found.metrics)
    manifest, target = export_on_ray(found.config, prepared, outcome, found.run_id, form)
    # A record of its own: that of the run names the version of the finished run.
    record = RunRecord(inputs_fingerprint=prepared.inputs_fingerprint(found.config), mlflow_run_id=found.run_id)
    version = register_checkpoint(ModelRegistry(), found.config, manifest, target, record)
    _print(
        f"proved: mean KL {manifest.proof['mean_kl']:.1e} nats; registered {version.name}/{version.version} (@newest) "
        f"at {version.checkpoint}"
    )
    if form == "adapter":
        size_bytes = sum(entry.size_bytes for entry in manifest.files.values())
        _print(f"an adapter of {size_bytes / 2**20:.1f} MiB for {found.config.model.base}; no engine serves it alone")
    return version


def _check_has_adapter(found: FoundCheckpoint) -> None:
    if found.adapter is not None:
        raise ConfigError(f"{found.folder} is an adapter already. Leave out --form adapter to merge it into its base.")
    if found.config.training.method != "lora":
        raise ConfigError(
            f"{found.folder}: training.method is {found.config.training.method}, which changes every weight, so there "
            "is no adapter to export. Leave out --form adapter."
        )


def _newest_checkpoint(run: Path, config: FinetuneConfig) -> Path:
    """The newest checkpoint of a run: as Ray Train has it, or else as NeMo wrote it."""
    # A folder that Ray Train has not listed is not complete: the run is writing it, or was killed meanwhile.
    listed = {result.get("checkpoint_dir_name") for result in reported_results(run)}
    reported = sorted(path for path in (run / TRAIN_STATE).glob("checkpoint_*") if path.name in listed)
    found = reported or finished_checkpoints(checkpoint_folder(config))
    if not found:
        raise CheckpointError(
            f"{run}: this run has no checkpoint yet. It writes one every training.checkpoint_every_steps steps, or "
            "once per epoch."
        )
    return found[-1]


def _metrics_of(folder: Path, run: Path | None) -> dict[str, float]:
    for result in reported_results(run) if run is not None else []:
        if result.get("checkpoint_dir_name") == folder.name:
            return dict(result["metrics"])
    step = folder.name.rpartition("-")[2]
    return {"step": float(step)} if step.isdigit() else {}


def reported_results(run: Path) -> list[dict[str, Any]]:
    """Folder name and metrics of the checkpoints that Ray Train has of a run, as it wrote them."""
    snapshot = run / TRAIN_STATE / SNAPSHOT
    if not snapshot.is_file():
        return []
    state = read_json(snapshot)
    return [*state.get("checkpoint_results", []), state.get("latest_checkpoint_result") or {}]


@contextlib.contextmanager
def linked_checkpoint(found: FoundCheckpoint) -> Iterator[Path]:
    """The checkpoint's files, under links of their own: a run that is still training deletes its older checkpoints.

    Only a checkpoint in Ray Train's folder of a run is linked. Raises CheckpointError if the run has deleted it.
    """
    run = found.folder.parent.parent
    if found.folder.parent.name != TRAIN_STATE or not (run / RECORD_NAME).is_file():
        yield found.folder
        return
    with staging_folder(run / "exports" / found.folder.name) as links:
        try:
            shutil.copytree(found.folder, links, copy_function=_link, dirs_exist_ok=True)
        except (FileNotFoundError, shutil.Error) as e:
            if _is_deleted(found, run):
                raise _deletion(found) from e
            raise
        if _is_deleted(found, run):
            raise _deletion(found)
        yield links


def _link(source: str, target: str) -> None:
    """A hard link; on file systems without them, such as those of object stores, a copy."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(source, target)


def _is_deleted(found: FoundCheckpoint, run: Path) -> bool:
    """Whether the run has begun to delete the checkpoint. Ray Train takes it off its list before it deletes files."""
    listed = {result.get("checkpoint_dir_name") for result in reported_results(run)}
    # Without metrics it was not on the list: the run was killed before it could delete it.
    return not found.folder.is_dir() or (bool(found.metrics) and found.folder.name not in listed)


def _deletion(found: FoundCheckpoint) -> CheckpointError:
    return CheckpointError(
        f"{found.folder}: the run keeps its last {count_of(found.config.run.kept_checkpoints, 'checkpoint')}, and has "
        "deleted this one meanwhile. Start the export again; the run's folder names its newest checkpoint."
    )


def _reported_folder(found: FoundCheckpoint, folder: Path) -> Path:
    """The folder for the backend: NeMo's checkpoints are reported as pointers, which every node must see."""
    if found.config.training.backend != "nemo" or not (found.folder / "weights").is_dir():
        return folder
    storage = RunFolder(found.config).storage.local
    assert storage is not None  # NeMo's storage is a folder
    pointer = storage / "exports" / found.folder.name
    write_pointer(pointer, found.folder)
    return pointer


def _print(text: str) -> None:
    print(f"[export] {text}", flush=True)
