"""Imports GPT-OSS weights, in Hugging Face or OpenAI's original format, into NeMo 2 format."""

from __future__ import annotations

from pathlib import Path

from tuneyard.checkpoints.safety.checkpoint_safety import check_safety
from tuneyard.checkpoints.safety.written_folders import record_written_folder
from tuneyard.checkpoints.staging import staging_folder
from tuneyard.core.errors import CheckpointError

SCHEMES = ("hf", "openai")


def import_checkpoint(source: str, target: Path) -> None:
    """Imports `source` (`hf://FOLDER` or `openai://FOLDER`) into `target`, which appears complete or not at all.

    Raises CheckpointError if the source is invalid or the target exists, ClusterError if this machine has too little
    memory, StorageFullError if the disk is full, and MissingDependencyError if NeMo is not installed.
    """
    scheme, folder = parse_source(source)
    # Before nemo, because it says what to install if NeMo is missing.
    import jobs.nemo.setup.patched

    # isort: split
    from nemo.collections import llm

    from jobs.nemo.connectors.registration import IMPORTERS, register_connectors
    from jobs.nemo.setup.import_memory import check_import_memory

    importer = IMPORTERS[scheme](str(folder))
    check_import_memory(importer.source_config(), importer.dtype.itemsize)
    register_connectors()
    with staging_folder(target) as staging:
        imported = staging / "checkpoint"  # NeMo requires a folder that does not exist yet
        llm.import_ckpt(
            model=llm.GPTOSSModel(importer.config),
            source=f"{scheme}://{folder}",
            output_path=imported,
        )
        # Recorded first: other processes wait for `target` and then compare it with the record.
        record_written_folder(imported, final=target.absolute())
        try:
            imported.rename(target)
        except OSError:
            if target.is_dir():
                # Another run has imported the same base meanwhile, and the record is now that of this import.
                record_written_folder(target.absolute())
            raise


def parse_source(source: str) -> tuple[str, Path]:
    """URL scheme and absolute folder of `source`.

    Raises CheckpointError if either is wrong, weights are missing, or the folder is not safe to load.
    """
    scheme, separator, path = source.partition("://")
    if not separator or scheme not in SCHEMES:
        raise CheckpointError(f"{source} is no source to import. Give hf://FOLDER or openai://FOLDER.")
    folder = Path(path).absolute()
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"{source}: {folder} does not contain a checkpoint. It must hold config.json and *.safetensors files."
        )
    check_safety(folder)
    return scheme, folder
