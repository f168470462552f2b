"""Exports a checkpoint as a GGUF file that appears only if llama.cpp computes from it what the checkpoint computes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from jobs.checkpoints.gguf.gguf_proof import check_predictions, compare_predictions
from jobs.checkpoints.gguf.llama_cpp import LIKELIEST, label_predictions
from jobs.checkpoints.gguf.template_proof import check_template
from jobs.checkpoints.heldout_loss import HeldoutChats, heldout_chats, label_log_probs
from tuneyard.checkpoints.gguf.gguf_manifest import GgufManifest, manifest_path, write_gguf_manifest
from tuneyard.checkpoints.gguf.gguf_types import GgufType
from tuneyard.checkpoints.gguf.writing import check_space, gguf_size, write_gguf
from tuneyard.checkpoints.manifest_writer import software_versions
from tuneyard.checkpoints.staging import staging_folder
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.core.errors import CheckpointError
from tuneyard.harmony.parity_rows import parse_parity_rows

SOFTWARE = ("tuneyard", "torch", "transformers", "gguf", "xllamacpp")


@dataclass(frozen=True, slots=True)
class GgufExport:
    """What to export, to which file, and how to measure it."""

    source: Path
    target: Path
    kind: GgufType
    heldout: str | None
    """Chats to measure the loss on; None: the held-out data of the source's training run."""

    max_rows: int
    """Largest number of rows to measure on."""

    max_loss_increase: float
    """Largest allowed increase of the loss, in nats per token."""


def export_gguf(job: GgufExport) -> GgufManifest:
    """Writes the file and its manifest at `job.target`, as a whole or not at all.

    Raises CheckpointError for a source that is not valid or that llama.cpp cannot run, a target that exists, and a file
    that fails the proof; ConfigError when there are no held-out chats; DatasetError when they are broken;
    StorageFullError when the disk is full; MissingDependencyError without gguf or xllamacpp.
    """
    target = job.target.absolute()
    for path in (target, manifest_path(target)):
        if path.exists():
            raise _exists(path)
    source = validate_hf_checkpoint(job.source)
    # write_gguf checks it too, but in the hidden folder, and after the chats are read.
    check_space(target, gguf_size(job.source, job.kind))
    chats = heldout_chats(job.source, source, job.heldout, job.max_rows)
    prompts = check_template(parse_parity_rows(source.parity), chats.codec)
    with staging_folder(target) as staging:
        written = staging / target.name
        with tqdm(desc="writing", unit="B", unit_scale=True, dynamic_ncols=True, disable=None) as bar:

            def report(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            summary = write_gguf(job.source, written, job.kind, on_progress=report)
        proof = _prove(job, written, chats) | {"template_prompts": prompts}
        manifest = write_gguf_manifest(written, source, job.kind, summary.dtypes, proof, software_versions(*SOFTWARE))
        # The file last, so that a file without a manifest is not from here.
        _publish(manifest_path(written), manifest_path(target))
        try:
            _publish(written, target)
        except BaseException:
            manifest_path(target).unlink()
            raise
    return manifest


def _publish(written: Path, target: Path) -> None:
    try:
        # Unlike a rename, a link fails where the name is taken.
        os.link(written, target)
    except FileExistsError as e:
        raise _exists(target) from e
    except OSError:
        # FAT and exFAT, the file systems of USB sticks, have no links. Nor have some network drives.
        if target.exists():
            raise _exists(target) from None
        written.rename(target)


def _exists(path: Path) -> CheckpointError:
    if path.is_dir():
        return CheckpointError(f"{path} is a folder. Name a file in it with --output, such as {path / 'model.gguf'}.")
    return CheckpointError(f"{path} already exists. Delete it, or choose another file with --output.")


def _prove(job: GgufExport, written: Path, chats: HeldoutChats) -> dict[str, float | str | int]:
    """The proof for the manifest. Raises CheckpointError when the file is not the checkpoint."""
    found = label_predictions(written, chats.rows, chats.codec, "llama.cpp")
    expected = label_log_probs(job.source, chats.rows, "transformers")
    proof = compare_predictions(expected, found)
    before, after = proof["loss_before"], proof["loss_after"]
    # Written so that a NaN fails.
    if not after - before <= job.max_loss_increase:
        raise CheckpointError(
            f"As {job.kind}, the loss on {len(chats.rows)} rows of {chats.location} rises from {before:.4f} to "
            f"{after:.4f} nats per token; --max-loss-increase allows {job.max_loss_increase:g}. Nothing was kept. "
            "Choose a type with more bits: f32, bf16 or q8_0."
        )
    check_predictions(proof)
    return {
        **proof,
        "loss_rows": len(chats.rows),
        "heldout": chats.location,
        "listed_tokens": LIKELIEST,
    }
