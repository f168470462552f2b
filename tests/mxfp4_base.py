"""A base checkpoint in the format that OpenAI publishes: experts in MXFP4, everything else in BF16."""

from __future__ import annotations

from pathlib import Path

from jobs.checkpoints.mxfp4_checkpoint import write_mxfp4
from tuneyard.checkpoints.manifest_writer import write_manifest


def publish_mxfp4(base: Path, target: Path) -> None:
    """Quantises the experts of `base` and writes the result to the new folder `target`, with a manifest."""
    target.mkdir()
    write_mxfp4(base, target)
    write_manifest(target, kind="base", name="published", version="1")
