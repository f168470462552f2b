"""The steps of the rehearsed run: those of a real one, in the same code, with the results reported step by step."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import ray.exceptions

from jobs.rehearsal.report import RehearsalReport
from jobs.rehearsal.training import rehearse_training
from jobs.rehearsal.worker_processes.server_process import ForkServer
from jobs.runs.export_task import export_on_ray
from jobs.runs.finetuning import proof_line
from jobs.runs.preflight import prepare_run
from jobs.runs.prepared_run import PreparedRun
from jobs.runs.ray_training import TrainOutcome
from jobs.runs.registration import register_checkpoint, run_params
from jobs.runs.run_record import RunFolder, RunRecord
from tuneyard.checkpoints.engine_compatibility import ENGINES, check_codec, check_for_engine
from tuneyard.checkpoints.manifest import CheckpointManifest
from tuneyard.checkpoints.registry import ModelRegistry, ModelVersion
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.cluster.connection import connect_ray, disconnect_ray, export_python_path
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import TrainingError
from tuneyard.core.wording import count_of

PREPARE, RAY, EXPORT, REGISTER, SERVE = "prepare", "ray", "export", "register", "serve"
PROGRESS_LOG = "training.log"

FORKED_MODULES = ["jobs.nemo.backend", "jobs.nemo.export"]
"""What takes the workers of a NeMo run longest to import. Neither imports Ray."""


@dataclass(frozen=True, slots=True)
class _StartedRun:
    """The small run before it trains: its inputs, its folder, and its run in the rehearsal's registry."""

    prepared: PreparedRun
    folder: RunFolder
    record: RunRecord
    registry: ModelRegistry
    run_id: str


def steps_after(training: tuple[str, ...]) -> tuple[str, ...]:
    """The names of all steps of a small run whose training has the stages `training`."""
    return (PREPARE, RAY, *training, EXPORT, REGISTER, SERVE)


def rehearse_small_run(report: RehearsalReport, config: FinetuneConfig, scratch: Path) -> None:
    """Trains, exports, registers and checks the small run, and adds each step to the report.

    Starts a private Ray and ends it; the environment must be that of scratch.rehearsal_environment.
    """
    with contextlib.ExitStack() as at_end:
        fork_server = None
        if config.training.backend == "nemo":
            export_python_path()
            fork_server = at_end.enter_context(ForkServer(scratch / "forks", FORKED_MODULES))
        at_end.callback(disconnect_ray)
        started = report.run(
            PREPARE, lambda: _start_run(config), lambda run: count_of(run.prepared.train_tokens.tokens, "token")
        )
        if started is not None and report.run(RAY, lambda: _connect(fork_server), str) is not None:
            _rehearse_started_run(report, config, started, scratch)


def _connect(fork_server: ForkServer | None) -> str:
    """Starts the private Ray, with workers that are forks of the server; returns a description of it."""
    if fork_server is None:
        return connect_ray("local")
    description = connect_ray("local", worker_python=fork_server.worker_python)
    fork_server.wait_until_ready()
    return f"{description}; NeMo is imported once, and the workers are forks of that process"


def _rehearse_started_run(report: RehearsalReport, config: FinetuneConfig, started: _StartedRun, scratch: Path) -> None:
    prepared, registry, run_id = started.prepared, started.registry, started.run_id
    with (scratch / PROGRESS_LOG).open("w", encoding="utf-8") as progress:
        outcome = rehearse_training(report, config, prepared, started.folder, registry, run_id, progress)
    if outcome is None:
        return
    exported = report.run(
        EXPORT, lambda: _export(config, prepared, outcome, run_id), lambda result: proof_line(result[0])
    )
    if exported is None:
        return
    manifest, target = exported
    version = report.run(
        REGISTER,
        lambda: register_checkpoint(registry, config, manifest, target, started.record),
        lambda version: f"{version.name}/{version.version}, in a registry of the rehearsal only",
    )
    registry.end_run(run_id, succeeded=version is not None)
    if version is not None:
        report.run(SERVE, lambda: _check_served(version, config), str)


def _start_run(config: FinetuneConfig) -> _StartedRun:
    """Checks the small run's data and config, and creates its folder and its run in the registry.

    Raises the TuneyardErrors of prepare_run, RunFolder.open and ModelRegistry.
    """
    prepared = prepare_run(config)
    folder, record = RunFolder.open(config, prepared.inputs_fingerprint(config))
    registry = ModelRegistry()
    run_id = registry.start_run(config.run.model_name, config.run.name, run_params(config, prepared), None)
    return _StartedRun(prepared, folder, record, registry, run_id)


def _export(
    config: FinetuneConfig, prepared: PreparedRun, outcome: TrainOutcome, run_id: str
) -> tuple[CheckpointManifest, str]:
    """See export_on_ray. Any other error of the export's process becomes a TrainingError, which names its end."""
    try:
        return export_on_ray(config, prepared, outcome, run_id)
    except ray.exceptions.RayError as e:
        raise TrainingError(f"The export failed: {e}") from e


def _check_served(version: ModelVersion, config: FinetuneConfig) -> str:
    """What a deployment checks before it serves the version, for each engine; returns what was checked.

    Raises CheckpointError.
    """
    folder = Path(version.checkpoint)
    manifest: CheckpointManifest = validate_hf_checkpoint(folder, base=config.model.folder)
    for engine in ENGINES:
        check_for_engine(folder, manifest, engine, base=config.model.folder)
    rows = check_codec(folder, manifest, version.name)
    prompts = count_of(len(rows), "prompt")
    return f"a valid checkpoint for {' and '.join(ENGINES)}; {prompts} with the tokens of the training"
