"""Quantises a checkpoint's experts, and publishes the result only if its held-out loss is close to the source's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jobs.checkpoints.heldout_loss import checkpoint_loss, heldout_chats
from jobs.checkpoints.mxfp4_checkpoint import write_mxfp4
from tuneyard.checkpoints.layout.gpt_oss import is_mxfp4
from tuneyard.checkpoints.manifest import CheckpointManifest
from tuneyard.checkpoints.manifest_writer import software_versions, write_manifest
from tuneyard.checkpoints.publishing import publish, staged, version_in
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.core.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Quantisation:
    """What to quantise, where to publish it under which name, and how to measure it."""

    source: Path
    target: str
    name: str
    heldout: str | None
    """Chats to measure the loss on; None: the held-out data of the source's training run."""

    max_rows: int
    """Largest number of rows to measure on."""

    max_loss_increase: float
    """Largest allowed increase of the loss, in nats per token."""


def quantise_checkpoint(job: Quantisation) -> CheckpointManifest:
    """Writes the source with MXFP4 experts, measures it, and publishes it at `job.target` as a whole or not at all.

    Raises CheckpointError for a source that cannot be quantised and for a loss that rises too much, ConfigError when
    there are no held-out chats, DatasetError when they are broken, and StorageFullError when the disk is full.
    """
    source = validate_hf_checkpoint(job.source)
    if is_mxfp4(job.source):
        raise CheckpointError(f"{job.source}: its experts are MXFP4 already.")
    heldout = heldout_chats(job.source, source, job.heldout, job.max_rows)
    rows = heldout.rows
    with staged(job.target) as staging:
        weight_error = write_mxfp4(job.source, staging)
        before = checkpoint_loss(job.source, rows, "loss before")
        after = checkpoint_loss(staging, rows, "loss after")
        # Written so that a NaN fails.
        if not after - before <= job.max_loss_increase:
            raise CheckpointError(
                f"Quantising raises the loss on {len(rows)} rows of {heldout.location} from {before:.4f} to "
                f"{after:.4f} nats per token; --max-loss-increase allows {job.max_loss_increase:g}. "
                "Nothing was published. Serve the source as it is, or train without changing the experts: then "
                "quantising does not change them."
            )
        proof: dict[str, float | str | int] = {
            "format": "mxfp4",
            "quantized_from": source.digest,
            "weight_error": weight_error,
            "loss_before": before,
            "loss_after": after,
            "loss_rows": len(rows),
        }
        _write_manifest(staging, job, source, proof)
        manifest = validate_hf_checkpoint(staging)
        publish(staging, job.target)
    return manifest


def _write_manifest(
    staging: Path, job: Quantisation, source: CheckpointManifest, proof: dict[str, float | str | int]
) -> None:
    """Writes the manifest: the source's lineage with a new name, version and proof."""
    write_manifest(
        staging,
        kind=source.kind,
        name=job.name,
        version=version_in(job.target),
        base=source.base,
        dataset=source.dataset,
        codec=source.codec,
        config=source.config,
        parity=source.parity,
        metrics=source.metrics,
        proof=proof,
        software=software_versions("tuneyard", "torch", "transformers"),
        git_commit=source.git_commit,
        run_id=source.run_id,
    )
