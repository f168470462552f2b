"""Adoption of a downloaded base model: portable config files, then the manifest that makes it a valid checkpoint."""

from __future__ import annotations

from pathlib import Path

from tuneyard.checkpoints.layout.gpt_oss import ARCHITECTURE
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.checkpoints.layout.portable import make_checkpoint_portable
from tuneyard.checkpoints.manifest import MANIFEST_NAME, CheckpointManifest
from tuneyard.checkpoints.manifest_writer import write_manifest
from tuneyard.checkpoints.safety.checkpoint_safety import check_safety
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.core.errors import CheckpointError


def adopt_checkpoint(folder: Path, name: str) -> CheckpointManifest:
    """Writes the manifest of a downloaded base model and returns it.

    First rewrites config.json and tokenizer_config.json so that transformers 4.57 and 5.x read them alike. Weights are
    not changed. Raises CheckpointError when the folder already has a manifest, is not safe to load (check_safety), or
    holds another architecture than GPT-OSS.
    """
    if (folder / MANIFEST_NAME).exists():
        raise CheckpointError(f"{folder}: has a manifest already. Check it: tuneyard models check {folder}")
    check_safety(folder)
    # Checked before files are rewritten, because the folder may hold another model.
    architecture = read_json(folder / "config.json").get("architectures")
    if architecture != [ARCHITECTURE]:
        raise CheckpointError(f"{folder}: architectures is {architecture!r}; Tuneyard takes [{ARCHITECTURE!r}] only.")
    make_checkpoint_portable(folder)
    write_manifest(folder, kind="base", name=name, version="1")
    try:
        return validate_hf_checkpoint(folder)
    except CheckpointError:
        (folder / MANIFEST_NAME).unlink()
        raise
