"""Exports a checkpoint with MXFP4 experts in OpenAI's original form, and compares every tensor that was written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tqdm import tqdm

from jobs.checkpoints.openai_layout import original_config, original_tensors
from jobs.checkpoints.shards import ShardWriter, TensorReader
from tuneyard.checkpoints.layout.gpt_oss import is_mxfp4
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.checkpoints.staging import staging_folder
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.core.errors import CheckpointError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
"""OpenAI's own folder has none; `python -m jobs.import_checkpoint openai://…` needs them beside the weights."""


def export_openai(source: Path, target: Path) -> int:
    """Writes the checkpoint `source` in OpenAI's form to `target`, and returns the number of tensors.

    `target` appears complete or not at all. Raises CheckpointError for a source that is not valid or not MXFP4 and for
    a target inside the source, StorageFullError when the disk is full.
    """
    if target.resolve().is_relative_to(source.resolve()):
        raise CheckpointError(
            f"{target}: lies inside the checkpoint {source}, which must not change. Choose another folder."
        )
    validate_hf_checkpoint(source)
    if not is_mxfp4(source):
        raise CheckpointError(
            f"{source}: OpenAI's form has MXFP4 experts only, and these are not quantised. "
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
        written_tensors = TensorReader(written)
        for tensor in tqdm(tensors, desc="comparing", unit="tensor", dynamic_ncols=True, disable=None):
            if not written_tensors.read(tensor.name).equal(tensor.build(reader.read)):
                raise CheckpointError(
                    f"{tensor.name}: reads back with other values than were written. Check the disk of {target}. "
                    "Nothing was kept."
                )
        # safetensors makes files that only their owner may read.
        mode = (written / "config.json").stat().st_mode
        for path in written.glob("*.safetensors"):
            path.chmod(mode)
        written.rename(target)
    return len(tensors)
