"""A checkpoint in the form in which OpenAI publishes GPT-OSS: MXFP4 experts."""

from __future__ import annotations

from pathlib import Path

from jobs.checkpoints.mxfp4_checkpoint import write_mxfp4
from tuneyard.checkpoints.manifest import write_manifest


def publish_mxfp4(base: Path, target: Path) -> None:
    """`base` with its experts quantised, as a base of its own."""
    target.mkdir()
    write_mxfp4(base, target)
    write_manifest(target, kind="base", name="published", version="1")
