"""A Hugging Face checkpoint in OpenAI's original form, for what reads that one: OpenAI's own gpt_oss, and others.

python -m jobs.export_openai acme-support-mxfp4@newest /models/acme-original
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from tuneyard.checkpoints.layout.gpt_oss import is_mxfp4, read_json
from tuneyard.checkpoints.node_cache import local_folder
from tuneyard.checkpoints.references import resolve_checkpoint
from tuneyard.checkpoints.staging import staging_folder
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.core.command import run_command
from tuneyard.core.errors import CheckpointError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
"""OpenAI's folder has none; python -m jobs.import_checkpoint openai://… wants them beside the weights."""

EPILOG = """\
SOURCE is name@alias or name/version in the registry, or a checkpoint folder. OpenAI's form knows experts in MXFP4 only:
python -m jobs.quantize makes them. No value changes; every tensor is read back and compared before TARGET appears.

examples:
  python -m jobs.export_openai acme-support-mxfp4@newest /models/acme-original
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.export_openai",
        description="Write a checkpoint in OpenAI's original form.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="name@alias, name/version or a folder, with MXFP4 experts")
    parser.add_argument("target", metavar="TARGET", type=Path, help="a folder that does not exist yet")
    arguments = parser.parse_args(argv)
    return run_command(
        lambda: _run(arguments.source, arguments.target), on_interrupt="Interrupted; nothing half-written was left."
    )


def export_openai(source: Path, target: Path) -> int:
    """Writes `source` in OpenAI's form to `target`, which appears whole or not at all; the number of tensors.

    Raises CheckpointError for a source that is not valid or not MXFP4, StorageFullError when the disk is full.
    """
    from tqdm import tqdm

    from jobs.checkpoints.openai_layout import original_config, original_tensors
    from jobs.checkpoints.shards import ShardWriter, TensorReader

    if target.resolve().is_relative_to(source.resolve()):
        raise CheckpointError(
            f"{target}: lies inside the checkpoint {source}, which must not change. Choose another place."
        )
    validate_hf_checkpoint(source)
    if not is_mxfp4(source):
        raise CheckpointError(
            f"{source}: OpenAI's form has experts in MXFP4 only, these are not quantised. "
            "First: python -m jobs.quantize SOURCE --format mxfp4"
        )
    config = original_config(read_json(source / "config.json"))
    tensors = list(original_tensors(config["num_hidden_layers"]))
    reader = TensorReader(source)
    with staging_folder(target) as staging:
        written = staging / "original"
        written.mkdir()
        writer = ShardWriter(written)
        for tensor in tqdm(tensors, desc="writing", unit="tensor", dynamic_ncols=True, disable=None):
            writer.add(tensor.name, tensor.build(reader.read))
        writer.close()
        (written / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        for name in TOKENIZER_FILES:
            shutil.copy(source / name, written)
        back = TensorReader(written)
        for tensor in tqdm(tensors, desc="comparing", unit="tensor", dynamic_ncols=True, disable=None):
            if not back.read(tensor.name).equal(tensor.build(reader.read)):
                raise CheckpointError(f"{tensor.name}: was written wrongly. Is the disk sound? Nothing was kept.")
        mode = (written / "config.json").stat().st_mode
        for path in written.glob("*.safetensors"):
            path.chmod(mode)  # the library writes files that only their owner may read
        written.rename(target)
    return len(tensors)


def _run(source: str, target: Path) -> None:
    count = export_openai(local_folder(resolve_checkpoint(source)), target.absolute())
    print(f"[export] {count} tensors, in OpenAI's form and read back equal: {target}")


if __name__ == "__main__":
    sys.exit(main())
