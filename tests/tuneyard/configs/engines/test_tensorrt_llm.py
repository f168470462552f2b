"""Fields of a TensorRT-LLM engine that contradict each other are refused."""

from __future__ import annotations

from typing import Any

import pytest

from tuneyard.configs.engines.tensorrt_llm import TensorRTLLMConfig


def engine(**fields: Any) -> TensorRTLLMConfig:
    return TensorRTLLMConfig.model_validate({"gpu": "H100"} | fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_seq_len": 9000}, r"prompts may have 8999 tokens .* max_num_tokens=8192. Set enable_chunked_prefill"),
        ({"max_seq_len": 100, "max_input_len": 100}, "no room for an answer"),
        ({"tensor_parallel_size": 4, "moe_expert_parallel_size": 3}, "=3 does not divide tensor_parallel_size=4"),
        ({"enable_attention_dp": True}, "needs more than one GPU"),
        ({"attention_dp_batching_wait_iters": 3}, "needs enable_attention_dp: true"),
    ],
)
def test_fields_that_contradict_each_other(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        engine(**fields)
