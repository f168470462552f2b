"""A checkpoint's experts back to MXFP4, the form in which GPT-OSS is published: a quarter of the memory.

python -m jobs.quantize acme-support@newest --format mxfp4
"""

from __future__ import annotations

import argparse
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

from tuneyard.checkpoints.layout.gpt_oss import is_mxfp4
from tuneyard.checkpoints.manifest import CheckpointManifest, read_manifest, software_versions, write_manifest
from tuneyard.checkpoints.node_cache import local_folder
from tuneyard.checkpoints.publishing import next_version, publish, staged, version_in
from tuneyard.checkpoints.references import resolve_checkpoint
from tuneyard.checkpoints.registry import ModelRegistry
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.core.command import run_command
from tuneyard.core.errors import CheckpointError, ConfigError
from tuneyard.harmony.codec import CodecSettings, HarmonyCodec
from tuneyard.storage.folder import child_location, default_storage

MAX_LOSS_INCREASE = 0.05
MAX_ROWS = 256
EPILOG = """\
SOURCE is name@alias or name/version in the registry, or a checkpoint folder. The result is a checkpoint of its own,
with the source's lineage, reloaded and measured: its loss on held-out chats may be higher than the source's by
--max-loss-increase at most, or nothing is published. Both losses stand in its manifest.

Only the experts' matrices change. Values that MXFP4 can hold come back unchanged, so experts that were never trained
lose nothing. The weights pass through memory shard by shard; measuring the loss loads the model (on a CPU in fp32).

examples:
  python -m jobs.quantize acme-support@newest --format mxfp4
  python -m jobs.quantize acme-support/3 --format mxfp4 --name acme-support-small --max-loss-increase 0.1
  python -m jobs.quantize /models/acme --format mxfp4 --heldout heldout.jsonl --output /models/acme-mxfp4
"""


@dataclass(frozen=True, slots=True)
class Quantisation:
    """What is to be quantised, to where, and by which measure. `heldout`: None takes that of the source's training."""

    source: Path
    target: str
    name: str
    heldout: str | None = None
    max_rows: int = MAX_ROWS
    max_loss_increase: float = MAX_LOSS_INCREASE


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.quantize",
        description="Quantise a checkpoint's experts, and prove that it still answers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="name@alias, name/version or a folder")
    parser.add_argument("--format", choices=("mxfp4",), required=True, help="mxfp4: that of openai/gpt-oss")
    parser.add_argument("--name", help="name of the result in the registry; default: the source's and -mxfp4")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write it there and register nothing")
    parser.add_argument(
        "--heldout", metavar="FILE", help="chats to measure on; default: those of the source's training"
    )
    parser.add_argument("--rows", type=int, default=MAX_ROWS, help=f"at most so many of them; default: {MAX_ROWS}")
    parser.add_argument(
        "--max-loss-increase",
        type=float,
        default=MAX_LOSS_INCREASE,
        metavar="NATS",
        help=f"nats per token; default: {MAX_LOSS_INCREASE}",
    )
    arguments = parser.parse_args(argv)
    if arguments.rows < 1:
        parser.error("--rows must be at least 1")
    return run_command(lambda: _run(arguments), on_interrupt="Interrupted; nothing half-written was left.")


def quantize(asked: Quantisation) -> CheckpointManifest:
    """Writes the quantised checkpoint to `asked.target`, proved; it appears whole or not at all.

    Raises CheckpointError for a source that cannot be quantised and for a result that answers worse than allowed,
    ConfigError without held-out chats, DatasetError for broken ones, StorageFullError when the disk is full.
    """
    from jobs.checkpoints.heldout_loss import checkpoint_loss, heldout_rows
    from jobs.checkpoints.mxfp4_checkpoint import write_mxfp4

    source = validate_hf_checkpoint(asked.source)
    if is_mxfp4(asked.source):
        raise CheckpointError(f"{asked.source}: its experts are MXFP4 already.")
    settings = CodecSettings.model_validate(source.codec.settings) if source.codec else CodecSettings()
    codec = HarmonyCodec.from_checkpoint(asked.source, settings)
    heldout = asked.heldout or _heldout_of(source)
    max_length = int(source.config.get("data", {}).get("max_length", 4096))
    rows = heldout_rows(heldout, codec, max_length, asked.max_rows)
    with staged(asked.target) as staging:
        weight_error = write_mxfp4(asked.source, staging)
        before = checkpoint_loss(asked.source, rows, "loss before")
        after = checkpoint_loss(staging, rows, "loss after")
        # Written so that a NaN fails.
        if not after - before <= asked.max_loss_increase:
            raise CheckpointError(
                f"The quantised model answers worse: its loss on {len(rows)} rows of {heldout} is {after:.4f}, the "
                f"source's {before:.4f} nats per token, and --max-loss-increase allows {asked.max_loss_increase:g}. "
                "Nothing was published. Serve the source as it is, or train with experts left alone: then they lose "
                "nothing."
            )
        proof: dict[str, float | str | int] = {
            "format": "mxfp4",
            "quantized_from": source.digest,
            "weight_error": weight_error,
            "loss_before": before,
            "loss_after": after,
            "loss_rows": len(rows),
        }
        write_manifest(
            staging,
            kind=source.kind,
            name=asked.name,
            version=version_in(asked.target),
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
        manifest = validate_hf_checkpoint(staging)
        publish(staging, asked.target)
    return manifest


def _heldout_of(source: CheckpointManifest) -> str:
    heldout = source.config.get("data", {}).get("heldout")
    if not heldout:
        raise ConfigError(
            f"{source.name} was trained without held-out chats, so nothing shows what quantising costs. "
            "Give some with --heldout FILE."
        )
    return str(heldout)


def _run(arguments: argparse.Namespace) -> None:
    registry = ModelRegistry()
    source = local_folder(resolve_checkpoint(arguments.source))
    name = arguments.name or f"{read_manifest(source).name}-mxfp4"
    target = (
        str(arguments.output.absolute())
        if arguments.output
        else next_version(child_location(default_storage(), "models", name), uuid.uuid4().hex)
    )
    manifest = quantize(
        Quantisation(source, target, name, arguments.heldout, arguments.rows, arguments.max_loss_increase)
    )
    proof = manifest.proof
    print(
        f"[quantize] loss {proof['loss_before']:.4f} before, {proof['loss_after']:.4f} after (nats per token, "
        f"{proof['loss_rows']} rows); the experts' matrices are off by {proof['weight_error']:.1%}"
    )
    if arguments.output:
        print(f"[quantize] written to {target}")
        return
    tags = {"weights_digest": manifest.digest, "quantized_from": str(proof["quantized_from"])}
    version = registry.register(name, target, manifest.run_id, tags)
    print(f"[quantize] registered {version.name}/{version.version} (@newest) at {version.checkpoint}")


if __name__ == "__main__":
    sys.exit(main())
