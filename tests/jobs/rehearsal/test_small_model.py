"""The small model has the form of the run's base, and sizes that every layout divides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.checkpoints.shards import TensorReader
from jobs.rehearsal.small_model import build_small_base, small_sizes
from tuneyard.checkpoints.layout.gpt_oss import expected_mxfp4_tensors, expected_tensors
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.planning.nemo_parallelism import ModelSizes, Parallelism

PUBLISHED: dict[str, Any] = json.loads(Path("tests/gpu/gpt_oss_20b_config.json").read_text(encoding="utf-8"))
"""config.json of openai/gpt-oss-20b, as it is published."""


def test_the_small_form_of_a_published_base_is_published(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    config = build_small_base(PUBLISHED, Parallelism(pipeline=4, expert=8), folder, published=True, adopted=False)
    written = read_json(folder / "config.json")
    assert written.keys() == PUBLISHED.keys()
    assert written["quantization_config"] == PUBLISHED["quantization_config"]
    same = {name for name in written if written[name] == PUBLISHED[name]}
    assert {"rope_scaling", "rope_theta", "swiglu_limit", "max_position_embeddings", "head_dim", "hidden_act"} <= same
    assert written["num_hidden_layers"] == 4
    assert written["layer_types"] == ["sliding_attention", "full_attention"] * 2
    assert written["num_local_experts"] == 16
    assert set(TensorReader(folder).names) == expected_mxfp4_tensors(config).keys()
    assert len(list(folder.glob("*.safetensors"))) >= 3
    assert len(read_json(folder / "generation_config.json")["eos_token_id"]) == 3
    assert not (folder / "manifest.json").exists()


def test_an_adopted_base_has_a_manifest(tmp_path: Path) -> None:
    build_small_base(PUBLISHED, Parallelism(), tmp_path / "base", published=True, adopted=True)
    assert validate_hf_checkpoint(tmp_path / "base").name == "rehearsal"


@pytest.mark.parametrize("adopted", [True, False])
def test_a_bf16_base_stays_bf16(tiny_oss: Path, tmp_path: Path, adopted: bool) -> None:
    own = read_json(tiny_oss / "config.json") | {"eos_token_id": [9, 8], "bos_token_id": None, "rms_norm_eps": 0.5}
    config = build_small_base(own, Parallelism(), tmp_path / "base", published=False, adopted=adopted)
    assert set(TensorReader(tmp_path / "base").names) == expected_tensors(config).keys()
    assert config["rms_norm_eps"] == 0.5
    assert config["bos_token_id"] is None
    ends = config["eos_token_id"]
    assert len(ends) == 2
    assert all(0 <= token < config["vocab_size"] for token in ends)


@given(
    pipeline=st.integers(1, 12),
    expert=st.integers(1, 32),
    context=st.integers(1, 8),
    tensor=st.integers(1, 8),
)
def test_every_layout_divides_the_small_sizes(pipeline: int, expert: int, context: int, tensor: int) -> None:
    fields = small_sizes(PUBLISHED, Parallelism(tensor, pipeline, expert, context))
    sizes = ModelSizes.of(fields)
    assert sizes.layers % pipeline == 0
    assert sizes.experts % expert == 0
    assert sizes.query_groups % context == 0
    assert sizes.query_groups % tensor == 0
    assert fields["num_attention_heads"] % sizes.query_groups == 0
    assert 1 <= fields["num_experts_per_tok"] <= sizes.experts
    assert sizes.experts >= 2 * expert
