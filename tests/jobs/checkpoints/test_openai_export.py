"""OpenAI's original form: what is refused. tests/compat compares its logits with OpenAI's own implementation."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.checkpoints.openai_export import export_openai
from jobs.checkpoints.shards import TensorReader
from tests.mxfp4_base import SMALL_SIZES, PublishedBase, publish_mxfp4
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.core.errors import CheckpointError


def test_the_target_must_not_be_inside_the_source(tiny_oss: Path, tmp_path: Path) -> None:
    publish_mxfp4(tiny_oss, tmp_path / "q")
    with pytest.raises(CheckpointError, match="lies inside the checkpoint"):
        export_openai(tmp_path / "q", tmp_path / "q" / "original")
    validate_hf_checkpoint(tmp_path / "q")


def test_every_tensor_of_a_published_model_is_written(published_base: PublishedBase, tmp_path: Path) -> None:
    """`export_openai` compares each with what it wrote; here their names, their number and their bytes."""
    count = export_openai(published_base.adopted, tmp_path / "original")
    config = read_json(tmp_path / "original" / "config.json")
    sizes = SMALL_SIZES[published_base.size]
    assert (config["num_hidden_layers"], config["num_experts"], config["experts_per_token"]) == (
        sizes["num_hidden_layers"],
        sizes["num_local_experts"],
        sizes["num_experts_per_tok"],
    )
    written, source = TensorReader(tmp_path / "original"), TensorReader(published_base.adopted)
    assert len(written.names) == count
    assert {name.split(".")[1] for name in written.names if name.startswith("block.")} == {
        str(layer) for layer in range(sizes["num_hidden_layers"])
    }
    # OpenAI's norms are fp32.
    assert sum(written.read(name).nbytes for name in written.names) == sum(
        source.read(name).nbytes * (2 if name.endswith("norm.weight") else 1) for name in source.names
    )


def test_experts_must_be_mxfp4(tiny_oss: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"First: python -m jobs\.quantize SOURCE --format mxfp4"):
        export_openai(tiny_oss, tmp_path / "original")
