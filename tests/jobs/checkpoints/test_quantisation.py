"""Quantising a checkpoint: the result is what was measured, and a refused result leaves no files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.checkpoints.mxfp4 import dequantise
from jobs.checkpoints.quantisation import Quantisation, quantise_checkpoint
from jobs.checkpoints.shards import ShardWriter
from tuneyard.checkpoints.manifest_writer import write_manifest
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.core.errors import CheckpointError, ConfigError

HELDOUT = "jobs/data/brindle_heldout.jsonl"


def quantisation(source: Path, target: Path, **options: Any) -> Quantisation:
    """A quantisation of `source`, measured on 4 rows of the demo's held-out chats."""
    return Quantisation(
        source, str(target), **({"name": "q", "heldout": HELDOUT, "max_rows": 4, "max_loss_increase": 1.0} | options)
    )


def replace_weights(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Replaces the checkpoint's weights, and writes a manifest for them."""
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_manifest(folder, kind="base", name="changed", version="1")


def test_the_result_is_what_was_measured(tiny_oss: Path, tmp_path: Path) -> None:
    manifest = quantise_checkpoint(quantisation(tiny_oss, tmp_path / "q"))
    assert validate_hf_checkpoint(tmp_path / "q") == manifest
    source, result = (load_file(folder / "model.safetensors") for folder in (tiny_oss, tmp_path / "q"))
    error = size = 0.0
    for name, tensor in source.items():
        if name.endswith("_proj") and tensor.dim() == 3:
            held = dequantise(result[f"{name}_blocks"], result[f"{name}_scales"]).transpose(1, 2)
            error += float((held - tensor.float()).square().sum())
            size += float(tensor.float().square().sum())
        else:
            assert torch.equal(result[name], tensor)
    assert manifest.proof["weight_error"] == pytest.approx((error / size) ** 0.5, rel=1e-4)
    assert 0.05 < manifest.proof["weight_error"] < 0.15
    assert manifest.proof["loss_before"] != manifest.proof["loss_after"]
    assert manifest.proof["quantized_from"] == validate_hf_checkpoint(tiny_oss).digest


def test_experts_that_mxfp4_can_hold_lose_nothing(tiny_oss_copy: Path, tmp_path: Path) -> None:
    """As after training only attention of a base that is published in MXFP4."""
    quantise_checkpoint(quantisation(tiny_oss_copy, tmp_path / "first"))
    published = load_file(tmp_path / "first" / "model.safetensors")
    tensors = load_file(tiny_oss_copy / "model.safetensors")
    for name in [name for name in tensors if f"{name}_blocks" in published]:
        held = dequantise(published[f"{name}_blocks"], published[f"{name}_scales"])
        tensors[name] = held.transpose(1, 2).to(torch.bfloat16).contiguous()
    replace_weights(tiny_oss_copy, tensors)
    manifest = quantise_checkpoint(quantisation(tiny_oss_copy, tmp_path / "second", max_loss_increase=0.0))
    assert manifest.proof["weight_error"] == 0
    assert manifest.proof["loss_before"] == manifest.proof["loss_after"]


def test_a_loss_that_rises_too_much_is_refused(tiny_oss: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"raises the loss on 4 rows of .* allows -1\. Nothing was published"):
        quantise_checkpoint(quantisation(tiny_oss, tmp_path / "q", max_loss_increase=-1.0))
    assert list(tmp_path.iterdir()) == []


def test_weights_that_mxfp4_cannot_hold_are_named(tiny_oss_copy: Path, tmp_path: Path) -> None:
    tensors = load_file(tiny_oss_copy / "model.safetensors")
    tensors["model.layers.1.mlp.experts.down_proj"][3, 5, 7] = float("nan")
    replace_weights(tiny_oss_copy, tensors)
    with pytest.raises(CheckpointError, match=r"model\.layers\.1\.mlp\.experts\.down_proj holds NaN values"):
        quantise_checkpoint(quantisation(tiny_oss_copy, tmp_path / "q"))
    assert not (tmp_path / "q").exists()


def test_quantising_twice_or_without_heldout_chats_is_refused(tiny_oss: Path, tmp_path: Path) -> None:
    quantise_checkpoint(quantisation(tiny_oss, tmp_path / "q"))
    with pytest.raises(CheckpointError, match="MXFP4 already"):
        quantise_checkpoint(quantisation(tmp_path / "q", tmp_path / "qq"))
    with pytest.raises(ConfigError, match=r"trained without held-out chats.*--heldout FILE"):
        quantise_checkpoint(quantisation(tiny_oss, tmp_path / "other", heldout=None))


def test_a_source_of_several_files_is_quantised(tiny_oss_copy: Path, tmp_path: Path) -> None:
    tensors = load_file(tiny_oss_copy / "model.safetensors")
    (tiny_oss_copy / "model.safetensors").unlink()
    writer = ShardWriter(tiny_oss_copy, shard_bytes=200_000)
    for name, tensor in tensors.items():
        writer.add(name, tensor)
    writer.close()
    write_manifest(tiny_oss_copy, kind="base", name="sharded", version="1")
    manifest = quantise_checkpoint(quantisation(tiny_oss_copy, tmp_path / "q"))
    assert manifest.proof["loss_rows"] == 4
