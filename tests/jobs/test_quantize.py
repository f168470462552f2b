"""jobs.quantize and jobs.export_openai: what is written is what was measured, and what is refused leaves nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs import export_openai as export_module
from jobs import quantize as quantize_module
from jobs.checkpoints.mxfp4 import dequantise
from jobs.checkpoints.shards import ShardWriter, TensorReader
from jobs.export_openai import export_openai
from jobs.quantize import Quantisation, quantize
from tuneyard.checkpoints.manifest import write_manifest
from tuneyard.checkpoints.registry import ModelRegistry
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.core.errors import CheckpointError, ConfigError

HELDOUT = "jobs/data/brindle_heldout.jsonl"


def asked(source: Path, target: Path, **options: Any) -> Quantisation:
    return Quantisation(
        source, str(target), **({"name": "q", "heldout": HELDOUT, "max_rows": 4, "max_loss_increase": 1.0} | options)
    )


def rewritten(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """The checkpoint's weights replaced, with a manifest that says so."""
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_manifest(folder, kind="base", name="changed", version="1")


def test_the_result_is_what_was_measured(tiny_oss: Path, tmp_path: Path) -> None:
    manifest = quantize(asked(tiny_oss, tmp_path / "q"))
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
    quantize(asked(tiny_oss_copy, tmp_path / "first"))
    published = load_file(tmp_path / "first" / "model.safetensors")
    tensors = load_file(tiny_oss_copy / "model.safetensors")
    for name in [name for name in tensors if f"{name}_blocks" in published]:
        held = dequantise(published[f"{name}_blocks"], published[f"{name}_scales"])
        tensors[name] = held.transpose(1, 2).to(torch.bfloat16).contiguous()
    rewritten(tiny_oss_copy, tensors)
    manifest = quantize(asked(tiny_oss_copy, tmp_path / "second", max_loss_increase=0.0))
    assert manifest.proof["weight_error"] == 0
    assert manifest.proof["loss_before"] == manifest.proof["loss_after"]


def test_a_worse_answer_than_allowed_is_refused(tiny_oss: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"its loss on 4 rows of .* allows -1\. Nothing was published"):
        quantize(asked(tiny_oss, tmp_path / "q", max_loss_increase=-1.0))
    assert list(tmp_path.iterdir()) == []


def test_weights_that_it_cannot_hold_are_named(tiny_oss_copy: Path, tmp_path: Path) -> None:
    tensors = load_file(tiny_oss_copy / "model.safetensors")
    tensors["model.layers.1.mlp.experts.down_proj"][3, 5, 7] = float("nan")
    rewritten(tiny_oss_copy, tensors)
    with pytest.raises(CheckpointError, match=r"model\.layers\.1\.mlp\.experts\.down_proj: MXFP4 cannot hold NaN"):
        quantize(asked(tiny_oss_copy, tmp_path / "q"))
    assert not (tmp_path / "q").exists()


def test_twice_is_refused_and_chats_are_needed(tiny_oss: Path, tmp_path: Path) -> None:
    quantize(asked(tiny_oss, tmp_path / "q"))
    with pytest.raises(CheckpointError, match="MXFP4 already"):
        quantize(asked(tmp_path / "q", tmp_path / "qq"))
    with pytest.raises(ConfigError, match=r"trained without held-out chats.*--heldout FILE"):
        quantize(asked(tiny_oss, tmp_path / "other", heldout=None))


def test_the_commands_write_and_register(tiny_oss: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`quantize` into the registry, `export_openai` out of it, both by name."""
    options = ["--format", "mxfp4", "--heldout", HELDOUT, "--rows", "3", "--max-loss-increase", "1"]
    assert quantize_module.main([str(tiny_oss), *options]) == 0
    said = capsys.readouterr().out
    version = ModelRegistry().find("tiny-oss-random-mxfp4@newest")
    assert f"registered tiny-oss-random-mxfp4/{version.version}" in said
    assert "(nats per token, 3 rows)" in said
    assert export_module.main(["tiny-oss-random-mxfp4@newest", str(tmp_path / "original")]) == 0
    assert "33 tensors" in capsys.readouterr().out
    config = json.loads((tmp_path / "original" / "config.json").read_text())
    assert (config["num_experts"], config["experts_per_token"], config["rope_scaling_factor"]) == (8, 2, 32.0)
    assert quantize_module.main([str(tmp_path / "nowhere"), *options]) == 1
    assert "no such checkpoint folder" in capsys.readouterr().err


def test_openais_form_never_goes_into_its_source(tiny_oss: Path, tmp_path: Path) -> None:
    quantize(asked(tiny_oss, tmp_path / "q"))
    with pytest.raises(CheckpointError, match="lies inside the checkpoint"):
        export_openai(tmp_path / "q", tmp_path / "q" / "original")
    validate_hf_checkpoint(tmp_path / "q")


def test_openais_form_needs_mxfp4(tiny_oss: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"First: python -m jobs\.quantize SOURCE --format mxfp4"):
        export_openai(tiny_oss, tmp_path / "original")


def test_shards_are_cut_and_found_again(tiny_oss_copy: Path, tmp_path: Path) -> None:
    """As for a large model: several files and the index that every loader reads."""
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
    whole = quantize(asked(tiny_oss_copy, tmp_path / "q"))
    assert whole.proof["loss_rows"] == 4


def test_a_folder_without_weights_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no"):
        TensorReader(Path(shutil.copytree("jobs/data", tmp_path / "data")))
