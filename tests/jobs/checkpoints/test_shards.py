"""Weights are written as several files with an index, and read back by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jobs.checkpoints.shards import ShardWriter, TensorReader
from tuneyard.checkpoints.manifest_writer import write_manifest
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.core.errors import CheckpointError


def test_shards_are_written_and_read_back(tiny_oss_copy: Path) -> None:
    """As for a large model: several files, and the index that every loader reads."""
    tensors = load_file(tiny_oss_copy / "model.safetensors")
    (tiny_oss_copy / "model.safetensors").unlink()
    writer = ShardWriter(tiny_oss_copy, shard_bytes=200_000)
    for name, tensor in tensors.items():
        writer.add(name, tensor)
    writer.close()
    assert len(list(tiny_oss_copy.glob("model-*-of-*.safetensors"))) > 3
    write_manifest(tiny_oss_copy, kind="base", name="sharded", version="1")
    validate_hf_checkpoint(tiny_oss_copy)
    reader = TensorReader(tiny_oss_copy)
    assert all(torch.equal(reader.read(name), tensor) for name, tensor in tensors.items())


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no"):
        TensorReader(Path(shutil.copytree("jobs/data", tmp_path / "data")))
