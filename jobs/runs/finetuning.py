"""A finetuning run from its config to the registered model: validate, train, export, prove, register, deploy."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from jobs.runs.data_summary import data_summary
from jobs.runs.dataset_preparation import build_report
from jobs.runs.followup_deployment import deploy_result
from jobs.runs.preflight import plan_memory, prepare_run, read_base
from jobs.runs.registration import find_finished_version, find_published, register_checkpoint, run_params
from jobs.runs.run_record import RunFolder, RunRecord
from jobs.workers.local_base import with_local_base
from tuneyard.checkpoints.registry import ModelRegistry
from tuneyard.cluster.connection import connect_ray, joins_cluster
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.configs.followup_deployment import load_deployment
from tuneyard.core.wording import count_of
from tuneyard.planning.gpus import GPUS
from tuneyard.planning.local_gpus import known_local_gpu

if TYPE_CHECKING:
    from jobs.runs.prepared_run import PreparedRun
    from tuneyard.checkpoints.manifest import CheckpointManifest
    from tuneyard.checkpoints.registry import ModelVersion


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
    run_id = record.mlflow_run_id = registry.start_run(
        config.run.model_name, config.run.name, run_params(config, prepared), record.mlflow_run_id
    )
    folder.save(record)
    started = time.monotonic()
    succeeded = False
    try:
        outcome = train_on_ray(config, prepared, folder, lambda points: registry.log_points(run_id, points))
        _print(f"trained in {time.monotonic() - started:.0f} s; exporting and proving")
        published = find_published(config, run_id, outcome.metrics.get("step"))
        manifest, target = published or export_on_ray(config, prepared, outcome, run_id)
        version = register_checkpoint(registry, config, manifest, target, record)
        succeeded = True
    finally:
        registry.end_run(run_id, succeeded=succeeded)
    folder.save(record)
    _print(proof_line(manifest))
    _print(f"registered {version.name}/{version.version} (@newest) at {version.checkpoint}")
    return version


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
