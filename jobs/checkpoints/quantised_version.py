"""Quantises a registered version or a checkpoint folder, and registers the result as a version of its own."""

from __future__ import annotations

import uuid
from pathlib import Path

from jobs.checkpoints.quantisation import Quantisation, quantise_checkpoint
from tuneyard.checkpoints.manifest import read_manifest
from tuneyard.checkpoints.node_cache import local_folder
from tuneyard.checkpoints.publishing import next_version_location
from tuneyard.checkpoints.references import resolve_checkpoint
from tuneyard.checkpoints.registry import ModelRegistry
from tuneyard.storage.location import child_location, default_storage


def quantise_version(
    reference: str,
    *,
    name: str | None,
    output: Path | None,
    heldout: str | None,
    max_rows: int,
    max_loss_increase: float,
) -> None:
    """Quantises the checkpoint that `reference` names, prints the losses, and registers the result as `name`.

    `name`: None takes the source's name with `-mxfp4`. `output`: a folder to write to instead, without registering.
    The other arguments are those of Quantisation. Raises RegistryError or CheckpointError for an unknown reference,
    and what quantise_checkpoint raises.
    """
    registry = ModelRegistry()
    source = local_folder(resolve_checkpoint(reference))
    name = name or f"{read_manifest(source).name}-mxfp4"
    if output is not None:
        target = str(output.absolute())
    else:
        target = next_version_location(child_location(default_storage(), "models", name), uuid.uuid4().hex)
    manifest = quantise_checkpoint(Quantisation(source, target, name, heldout, max_rows, max_loss_increase))
    proof = manifest.proof
    print(
        f"[quantize] loss {proof['loss_before']:.4f} before, {proof['loss_after']:.4f} after (nats per token, "
        f"{proof['loss_rows']} rows); relative error of the experts' matrices {proof['weight_error']:.1%}"
    )
    if output is not None:
        print(f"[quantize] written to {target}")
        return
    tags = {"weights_digest": manifest.digest, "quantized_from": str(proof["quantized_from"])}
    version = registry.register(name, target, manifest.run_id, tags)
    print(f"[quantize] registered {version.name}/{version.version} (@newest) at {version.checkpoint}")
