"""Builds a base model by its name, or keeps the valid one that is already there."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from tuneyard.checkpoints.manifest import CheckpointManifest, read_manifest
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.core.errors import CheckpointError


def build_base_model(name: str, target: Path, wheel: Path | None = None, force: bool = False) -> CheckpointManifest:
    """The manifest of the base model at `target`, which is built if it is not there or if `force`; prints each step.

    Raises CheckpointError if `target` holds something else, if the checkpoint there is damaged, and if the build
    fails. A failed build leaves the old checkpoint as it was.
    """
    print(f"looking at {target}", flush=True)
    if not target.exists():
        manifest = _build(name, target, wheel)
    else:
        manifest = _read_existing(name, target, validate=not force)
        if not force:
            print(f"{name} is already there and valid: kept (--force builds it again)")
            return manifest
        fresh = target.with_name(f".{target.name}.rebuilt")
        shutil.rmtree(fresh, ignore_errors=True)
        manifest = _build(name, fresh, wheel)
        shutil.rmtree(target)
        fresh.rename(target)
    print(f"{name} is ready: {target} (weights {manifest.digest[:12]})")
    return manifest


def _build(name: str, target: Path, wheel: Path | None) -> CheckpointManifest:
    started = time.monotonic()

    def report(line: str) -> None:
        print(f"{time.monotonic() - started:5.1f} s  {line}", flush=True)

    report("loading torch and transformers")
    from transformers.utils import logging

    logging.disable_progress_bar()
    if name == "tiny-oss-random":
        from jobs.bases.tiny_oss import build_tiny_oss

        return build_tiny_oss(target, report=report)
    from jobs.bases.smol_oss import build_smol_oss

    return build_smol_oss(target, wheel, report=report)


def _read_existing(name: str, target: Path, *, validate: bool) -> CheckpointManifest:
    """The manifest of the base model `name` at `target`; with `validate` every file is compared with it.

    Raises CheckpointError if `target` is not that base model, because only base models are ever replaced.
    """
    try:
        manifest = read_manifest(target)
    except CheckpointError as e:
        raise CheckpointError(f"{e} Move {target} away, or choose another --output.") from e
    if (manifest.kind, manifest.name) != ("base", name):
        raise CheckpointError(
            f"{target} holds {manifest.name} ({manifest.kind}), not the base {name}. Choose another --output."
        )
    if validate:
        try:
            validate_hf_checkpoint(target)
        except CheckpointError as e:
            raise CheckpointError(f"{e}\nBuild it again with --force.") from e
    return manifest
