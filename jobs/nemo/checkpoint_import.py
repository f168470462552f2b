"""Imports GPT-OSS weights, in Hugging Face or OpenAI's original format, into NeMo 2 format."""

from __future__ import annotations

from pathlib import Path

from tuneyard.checkpoints.staging import staging_folder
from tuneyard.core.errors import CheckpointError

SCHEMES = ("hf", "openai")


def import_checkpoint(source: str, target: Path) -> None:
    """Imports `source` (`hf://FOLDER` or `openai://FOLDER`) into `target`, which appears complete or not at all.

    Raises CheckpointError if the source is invalid or the target exists, StorageFullError if the disk is full, and
    MissingDependencyError if NeMo is not installed.
    """
    scheme, folder = parse_source(source)
    from jobs.nemo.fixes import apply_fixes

    apply_fixes()
    from nemo.collections import llm

    from jobs.nemo.connectors.registration import IMPORTERS, register_connectors

    register_connectors()
    with staging_folder(target) as staging:
        imported = staging / "checkpoint"  # NeMo requires a folder that does not exist yet
        llm.import_ckpt(
            model=llm.GPTOSSModel(IMPORTERS[scheme](str(folder)).config),
            source=f"{scheme}://{folder}",
            output_path=imported,
        )
        imported.rename(target)


def parse_source(source: str) -> tuple[str, Path]:
    """URL scheme and absolute folder of `source`. Raises CheckpointError if either is wrong or weights are missing."""
    scheme, separator, path = source.partition("://")
    if not separator or scheme not in SCHEMES:
        raise CheckpointError(f"{source} is no source to import. Give hf://FOLDER or openai://FOLDER.")
    folder = Path(path).absolute()
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"{source}: {folder} does not contain a checkpoint. It must hold config.json and *.safetensors files."
        )
    return scheme, folder
