"""A finetuning run from its config to the registered model: validate, train, export, prove, register, deploy."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from jobs.runs.data_summary import data_summary
from jobs.runs.dataset_preparation import build_report
from jobs.runs.followup_deployment import deploy_result
from jobs.runs.preflight import plan_memory, prepare_run, read_base
from jobs.runs.registration import find_finished_version, find_published, register_checkpoint, run_params
from jobs.runs.run_record import RunFolder, RunRecord
from jobs.runs.tracking.opening import open_tracking
from jobs.workers.local_base import with_local_base
from tuneyard.checkpoints.registry import ModelRegistry
from tuneyard.cluster.connection import connect_ray, joins_cluster
from tuneyard.configs.experiment_tracking import check_wandb
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.configs.followup_deployment import load_deployment
from tuneyard.core.errors import TuneyardError
from tuneyard.core.wording import count_of
from tuneyard.planning.gpus import GPUS
from tuneyard.planning.local_gpus import known_local_gpu

if TYPE_CHECKING:
    from jobs.runs.prepared_run import PreparedRun
    from jobs.runs.ray_training import TrainOutcome
    from tuneyard.checkpoints.manifest import CheckpointManifest
    from tuneyard.checkpoints.registry import ModelVersion

    Export = Callable[[TrainOutcome], tuple[CheckpointManifest, str]]
    """Exports, proves and publishes a checkpoint; returns its manifest and its location."""


def finetune(
    config: FinetuneConfig, *, address: str | None = None, dry_run: bool = False, verbose: bool = False
) -> ModelVersion | None:
    """Runs or resumes the config's run and returns its registered version; None for a dry run.

    A run that is already done returns its version without training. Prints its steps. Raises a TuneyardError with the
    fix for every mistake of a user; before training starts it writes only the rendered tokens and the run's folder.
    """
    # Before connect_ray: a private Ray that it starts would count as a running cluster.
    uses_cluster = joins_cluster(address)
    _print("validating data and config")
    if config.deploy is not None:
        load_deployment(config)
    if config.wandb is not None:
        check_wandb("wandb", os.environ)
    # On a cluster the driver's node may have another GPU than the workers' nodes, or none.
    gpu_type = known_local_gpu() if config.workers.use_gpu and not uses_cluster else None
    local = with_local_base(config, weights=False)
    prepared = prepare_run(local, gpu_type)
    for line in data_summary(prepared, config):
        _print(line)
    if dry_run:
        print(config.model_dump_json(indent=2))
        return None
    folder, record = RunFolder.open(config, prepared.inputs_fingerprint(config))
    registry = ModelRegistry()
    version = find_finished_version(record, registry, config)
    if version is not None:
        _print(f"run {config.run.name!r} is already done: {version.name}/{version.version} at {version.checkpoint}")
        _print("to train again, choose another run.name, or start over with --set run.resume=false")
    else:
        folder.save_report(build_report(prepared, local))
        _print(f"Ray: {connect_ray(address, verbose=verbose)}")
        version = _train_and_publish(config, prepared, folder, record, registry)
    if config.deploy is not None:
        _print(f"deploying with {config.deploy}")
        deploy_result(config.deploy, address, detach=uses_cluster)
    return version


def _train_and_publish(
    config: FinetuneConfig, prepared: PreparedRun, folder: RunFolder, record: RunRecord, registry: ModelRegistry
) -> ModelVersion:
    """Trains, exports, proves and registers. Ray must be connected."""
    # Only now, because these import Ray, which takes seconds: wrong data or configs are reported at once.
    from jobs.runs.export_task import export_on_ray
    from jobs.runs.ray_training import train_on_ray
    from jobs.workers.placement import check_files, check_main_memory, check_workers

    workers = count_of(config.workers.resource_request.count, "worker")
    shortages = check_workers(config, f"The run {config.run.name!r} with {workers}")
    if shortages:
        _print(f"waiting for nodes: {shortages}")
    check_gpu_memory(config, prepared, waits_for_nodes=bool(shortages))
    check_main_memory(config, prepared.host_memory)
    check_files(config)
    params = run_params(config, prepared)
    run_id = record.mlflow_run_id = registry.start_run(
        config.run.model_name, config.run.name, params, record.mlflow_run_id
    )
    folder.save(record)
    tracking = open_tracking(config, params, run_id, lambda name, value: registry.set_tag(run_id, name, value))

    def log(points: list[tuple[int, dict[str, float]]]) -> None:
        registry.log_points(run_id, points)
        if tracking is not None:
            tracking.log_points(points)

    def export(trained: TrainOutcome) -> tuple[CheckpointManifest, str]:
        published = find_published(config, run_id, trained.metrics.get("step"))
        return published or export_on_ray(config, prepared, trained, run_id)

    started = time.monotonic()
    succeeded = False
    summary: dict[str, str | float] = {"state": "failed"}
    try:
        outcome = train_on_ray(config, prepared, folder, log)
        _print(f"trained in {time.monotonic() - started:.0f} s; exporting and proving")
        manifest, target = export(outcome)
        version = register_checkpoint(registry, config, manifest, target, record)
        publish_earlier(outcome, config, registry, record, export)
        summary = {"state": "succeeded", "model": f"{version.name}/{version.version}", **manifest.proof}
        succeeded = True
    finally:
        registry.end_run(run_id, succeeded=succeeded)
        if tracking is not None:
            tracking.end(summary, succeeded=succeeded)
    folder.save(record)
    _print(proof_line(manifest))
    _print(f"registered {version.name}/{version.version} (@newest) at {version.checkpoint}")
    return version


def publish_earlier(
    outcome: TrainOutcome, config: FinetuneConfig, registry: ModelRegistry, record: RunRecord, export: Export
) -> None:
    """Exports, proves and registers the checkpoints before the last one. One that fails is left out: the run has its
    model all the same.

    `record` is saved after all of them, so a run that is killed before that adds here what is not there yet.
    """
    from mlflow.exceptions import MlflowException
    from ray.exceptions import RayError

    for earlier in outcome.earlier:
        # A record of its own: that of the run names the version of the last checkpoint.
        own = RunRecord(inputs_fingerprint=record.inputs_fingerprint, mlflow_run_id=record.mlflow_run_id)
        step = f"the checkpoint of step {earlier.metrics['step']:.0f}"
        try:
            version = register_checkpoint(registry, config, *export(earlier), own, alias=None)
        except (TuneyardError, RayError, MlflowException, OSError) as e:
            _print(f"{step} is left out: {e}")
        else:
            _print(f"registered {step} as {version.name}/{version.version} at {version.checkpoint}")


def check_gpu_memory(config: FinetuneConfig, prepared: PreparedRun, *, waits_for_nodes: bool) -> None:
    """Checks the run against the GPUs of the cluster's nodes, where its config names no GPU type.

    Raises ConfigError if it does not fit. Prints why it cannot be checked, if the nodes have not one known type, or are
    not all there yet.
    """
    from jobs.workers.gpu_type import cluster_gpu_types, with_gpu_type

    if prepared.memory is None or config.workers.accelerator_type is not None:
        return
    found = cluster_gpu_types(config.workers)
    if waits_for_nodes:
        _print_unchecked("nodes are still to come")
    elif len(found) == 1 and found[0] in GPUS:
        local = with_local_base(config, weights=False)
        plan_memory(with_gpu_type(local, found[0]), read_base(local), prepared)
    else:
        _print_unchecked(f"the GPUs of nodes that can hold a worker are {' and '.join(found)}")


def _print_unchecked(reason: str) -> None:
    _print(f"GPU memory is not checked: {reason}. Set workers.accelerator_type to have it checked")


def proof_line(manifest: CheckpointManifest) -> str:
    """What the proof of an export found, in words."""
    proof = manifest.proof
    return (
        f"proved: mean KL to the trained model {proof['mean_kl']:.1e} nats, "
        f"same first token at {proof['top1_agreement']:.1%} of {int(proof['positions'])} positions"
    )


def _print(text: str) -> None:
    print(f"[finetune] {text}", flush=True)
