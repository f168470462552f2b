"""The finetuning job: validate, train on Ray, export, prove, register.

python -m jobs.finetune --config jobs/configs/demo_cpu.yaml
RAY_AUTH_MODE=token ray job submit --working-dir . --runtime-env-json '{"py_modules": ["platform/tuneyard"]}' -- \\
    python -m jobs.finetune --config jobs/configs/demo_cpu.yaml
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from jobs.runs.local_base import with_local_base
from jobs.runs.run_record import RunFolder, RunRecord
from tuneyard.checkpoints.manifest import MANIFEST_NAME
from tuneyard.configs.deploy_after import load_deployment
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.command import add_config_arguments, run_command
from tuneyard.core.config_loading import load_config
from tuneyard.core.errors import TrainingError
from tuneyard.storage.folder import StorageFolder

if TYPE_CHECKING:
    from jobs.runs.preflight import PreparedRun
    from tuneyard.checkpoints.manifest import CheckpointManifest
    from tuneyard.checkpoints.registry import ModelRegistry, ModelVersion


EPILOG = """\
examples:
  python -m jobs.finetune --config jobs/configs/demo_cpu.yaml
  python -m jobs.finetune --config jobs/configs/demo_cpu.yaml --set training.epochs=1 --set run.name=quick
  python -m jobs.finetune --config my.yaml --dry-run      validate everything, print the resolved config

The same run.name resumes after a crash or Ctrl-C. Every field: platform/tuneyard/configs/finetune.py
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.finetune",
        description="Finetune GPT-OSS on a file of chats, on Ray; export, prove and register the result.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="validate and print the resolved config; start nothing")
    arguments = parser.parse_args(argv)
    return run_command(
        lambda: finetune(
            load_config(FinetuneConfig, arguments.config, arguments.overrides),
            address=arguments.address,
            dry_run=arguments.dry_run,
            verbose=arguments.verbose,
        ),
        on_interrupt="Interrupted. Checkpoints are kept: the same command goes on from the last one.",
    )


def finetune(
    config: FinetuneConfig, *, address: str | None = None, dry_run: bool = False, verbose: bool = False
) -> ModelVersion | None:
    """The registered model version of a run, trained if need be; None for a dry run.

    Raises a TuneyardError with the fix for everything that a user can mend; before training starts
    nothing has been written but the rendered tokens and the run's folder.
    """
    from jobs.runs.preflight import prepare_run
    from tuneyard.cluster.connection import joins_cluster

    # Asked before anything is started here, which would be found.
    joins = joins_cluster(address)
    say("validating data and config")
    if config.deploy is not None:
        load_deployment(config)
    prepared = prepare_run(with_local_base(config, weights=False))
    _say_prepared(prepared, config)
    if dry_run:
        print(config.model_dump_json(indent=2))
        return None
    folder, record = RunFolder.open(config, prepared.inputs_fingerprint(config))
    from tuneyard.checkpoints.registry import ModelRegistry

    registry = ModelRegistry()
    version = _finished_version(record, registry, config)
    if version is not None:
        say(f"run {config.run.name!r} is already done: {version.name}/{version.version} at {version.checkpoint}")
        say("for another one choose another run.name, or give --set run.resume=false to start over")
    else:
        version = _train_and_publish(config, prepared, folder, record, registry, address, verbose)
    if config.deploy is not None:
        _deploy(config.deploy, address, detach=joins)
    return version


def _deploy(config: str, address: str | None, *, detach: bool) -> None:
    """Serves the result: on a cluster it stays up, on a private Ray until Ctrl-C. Raises TrainingError if it fails."""
    from tuneyard.cluster.connection import disconnect_ray

    more = ["--detach"] if detach else []
    more += ["--address", address] if address is not None else []
    disconnect_ray()
    say(f"deploying with {config}")
    with subprocess.Popen([sys.executable, "-m", "serve_apps.deploy", "--config", config, *more]) as child:
        try:
            code = child.wait()
        except KeyboardInterrupt:
            # It ends what it serves when its streams have ended; left to Popen, it would be killed at once.
            child.send_signal(signal.SIGINT)
            child.wait()
            raise
    if code != 0:
        raise TrainingError(
            f"The model is trained and registered, but its deployment failed (exit code {code}; its own lines stand "
            "above). The same command tries it again, without training."
        )


def _train_and_publish(
    config: FinetuneConfig,
    prepared: PreparedRun,
    folder: RunFolder,
    record: RunRecord,
    registry: ModelRegistry,
    address: str | None,
    verbose: bool,
) -> ModelVersion:
    from jobs.runs.ray_training import check_files, check_workers, export_on_ray, train_on_ray
    from tuneyard.cluster.connection import connect_ray

    say(f"Ray: {connect_ray(address, verbose=verbose)}")
    lacking = check_workers(config, f"The run {config.run.name!r} with {config.workers.need.count} worker(s)")
    if lacking:
        say(f"waiting for nodes: {lacking}")
    check_files(config)
    run_id = record.mlflow_run_id = registry.start_run(
        config.run.model_name, config.run.name, _run_params(config, prepared), record.mlflow_run_id
    )
    folder.save(record)
    started = time.monotonic()
    succeeded = False
    try:
        outcome = train_on_ray(config, prepared, folder, lambda points: registry.log_points(run_id, points))
        say(f"trained in {time.monotonic() - started:.0f} s; exporting and proving")
        manifest, target = export_on_ray(config, prepared, outcome, run_id)
        version = _register(registry, config, manifest, target, record)
        succeeded = True
    finally:
        registry.end_run(run_id, succeeded=succeeded)
    folder.save(record)
    say(
        f"proved: mean KL to the trained model {manifest.proof['mean_kl']:.1e} nats, "
        f"same first token at {manifest.proof['top1_agreement']:.1%} of {int(manifest.proof['positions'])} positions"
    )
    say(f"registered {version.name}/{version.version} (@newest) at {version.checkpoint}")
    return version


def _register(
    registry: ModelRegistry, config: FinetuneConfig, manifest: CheckpointManifest, target: str, record: RunRecord
) -> ModelVersion:
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
        **{f"metric.{name}": f"{value:g}" for name, value in manifest.metrics.items()},
    }
    version = registry.register(config.run.model_name, target, record.mlflow_run_id, tags)
    record.checkpoint, record.version = target, version.version
    return version


def _finished_version(record: RunRecord, registry: ModelRegistry, config: FinetuneConfig) -> ModelVersion | None:
    """The run's registered version, if its checkpoint still stands."""
    if record.version is None or record.checkpoint is None:
        return None
    if StorageFolder.open(record.checkpoint).size_of(MANIFEST_NAME) is None:
        return None
    return registry.find(f"{config.run.model_name}/{record.version}")


def _run_params(config: FinetuneConfig, prepared: PreparedRun) -> dict[str, str]:
    training = {f"training.{k}": str(v) for k, v in config.training.model_dump(mode="json").items()}
    return training | {
        "base": config.model.base,
        "base_digest": prepared.base_digest,
        "dataset_fingerprint": prepared.dataset_fingerprint,
        "codec_fingerprint": prepared.codec_fingerprint,
        "num_workers": str(config.workers.num_workers),
    }


def _say_prepared(prepared: PreparedRun, config: FinetuneConfig) -> None:
    tokens = prepared.train_tokens
    heldout = f", {prepared.heldout.rows} held out" if prepared.heldout else ""
    rows = "packs of training rows" if config.data.batching == "packed" else "training rows"
    say(f"{prepared.train.rows} chats{heldout}; {tokens.rows} {rows}, {tokens.tokens} tokens, {config.data.batching}")
    for name, checked, store in (
        ("training", prepared.train, tokens),
        ("held-out", prepared.heldout, prepared.heldout_tokens),
    ):
        if checked is not None and checked.notes:
            found = ", ".join(f"{count} × {kind}" for kind, count in checked.notes.most_common())
            say(f"to look at in the {name} data: {found}. Each with its line: tuneyard data validate")
        if store is not None and store.too_long:
            listed = "; ".join(store.too_long_named[:5]) + ("; …" if store.too_long > 5 else "")
            say(f"left out {store.too_long} {name} row(s) over data.max_length={config.data.max_length}: {listed}")


def say(text: str) -> None:
    """One line for people, on standard output."""
    print(f"[finetune] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
