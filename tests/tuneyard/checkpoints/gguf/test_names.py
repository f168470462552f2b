"""The table of names covers every tensor of GPT-OSS, with the names that llama.cpp's own package knows."""

from __future__ import annotations

import gguf
import pytest

from tuneyard.checkpoints.gguf.names import gguf_names
from tuneyard.checkpoints.layout.gpt_oss import expected_tensors

LAYERS = 3
CONFIG = {
    "hidden_size": 64,
    "vocab_size": 10,
    "num_hidden_layers": LAYERS,
    "intermediate_size": 32,
    "num_attention_heads": 4,
    "head_dim": 16,
    "num_local_experts": 2,
    "num_key_value_heads": 2,
}


def test_every_tensor_has_a_name() -> None:
    assert set(gguf_names(LAYERS).values()) == expected_tensors(CONFIG).keys()


def test_only_gate_and_up_share_a_tensor() -> None:
    sources = list(gguf_names(1).values())
    shared = {source for source in sources if sources.count(source) > 1}
    assert shared == {"model.layers.0.mlp.experts.gate_up_proj", "model.layers.0.mlp.experts.gate_up_proj_bias"}


@pytest.mark.parametrize("name", gguf_names(1))
def test_llama_cpp_knows_the_name(name: str) -> None:
    known = {gguf.TENSOR_NAMES[kind].format(bid=0) for kind in gguf.MODEL_TENSORS[gguf.MODEL_ARCH.GPT_OSS]}
    # llama.cpp's table says attn_sinks, without a suffix, and its loader asks for attn_sinks.weight.
    assert name.removesuffix(".weight").removesuffix(".bias") in {entry.removesuffix(".weight") for entry in known}
