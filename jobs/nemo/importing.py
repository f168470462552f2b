"""GPT-OSS weights, in Hugging Face's or OpenAI's form, imported into NeMo 2 format."""

from __future__ import annotations

from pathlib import Path

from tuneyard.checkpoints.staging import staging_folder
from tuneyard.core.errors import CheckpointError

SCHEMES = ("hf", "openai")


def import_checkpoint(source: str, target: Path) -> None:
    """Writes `source` to `target`, which appears whole or not at all.

    Raises CheckpointError for a source that is none or a target that exists, StorageFullError when the disk is
    full, MissingDependencyError without NeMo.
    """
    scheme, folder = parse_source(source)
    from jobs.nemo.fixes import apply_fixes

    apply_fixes()
    from nemo.collections import llm

    from jobs.nemo.connectors import IMPORTERS, register

    register()
    with staging_folder(target) as staging:
        written = staging / "checkpoint"  # NeMo imports into a folder that does not exist
        llm.import_ckpt(
            model=llm.GPTOSSModel(IMPORTERS[scheme](str(folder)).config),
            source=f"{scheme}://{folder}",
            output_path=written,
        )
        written.rename(target)


def parse_source(source: str) -> tuple[str, Path]:
    """Scheme and folder of a source. Raises CheckpointError when it is not one, or holds no weights."""
    scheme, separator, path = source.partition("://")
    if not separator or scheme not in SCHEMES:
        raise CheckpointError(f"{source}: expected hf://FOLDER or openai://FOLDER.")
    folder = Path(path).absolute()
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise CheckpointError(f"{source}: {folder} holds no config.json with *.safetensors beside it.")
    return scheme, folder
