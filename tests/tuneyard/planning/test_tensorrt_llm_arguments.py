"""The arguments of TensorRT-LLM's LLM class follow the GPU and the config."""

from __future__ import annotations

from typing import Any

from tuneyard.configs.engines.tensorrt_llm import TensorRTLLMConfig
from tuneyard.planning.tensorrt_llm_arguments import llm_arguments


def engine(**fields: Any) -> TensorRTLLMConfig:
    return TensorRTLLMConfig.model_validate({"gpu": "H100"} | fields)


def test_arguments_follow_the_gpu() -> None:
    hopper, blackwell = (llm_arguments(engine(gpu=gpu), is_mxfp4=True) for gpu in ("H200", "B200"))
    assert (hopper["moe_config"], blackwell["moe_config"]) == ({"backend": "TRITON"}, {"backend": "TRTLLM"})
    assert (hopper["kv_cache_config"]["dtype"], blackwell["kv_cache_config"]["dtype"]) == ("auto", "fp8")
    assert llm_arguments(engine(gpu="B200"), is_mxfp4=False)["moe_config"] == {"backend": "CUTLASS"}
    assert llm_arguments(engine(tensor_parallel_size=4), is_mxfp4=True)["moe_expert_parallel_size"] == 4
    assert (hopper["max_seq_len"], hopper["max_input_len"]) == (8192, 8191)
    assert llm_arguments(engine(cuda_graph_max_batch_size=0), is_mxfp4=True)["cuda_graph_config"] is None
    drafted = llm_arguments(engine(speculative={"model": "/draft"}), is_mxfp4=True)["speculative_config"]
    assert drafted == {"speculative_model": "/draft", "max_draft_len": 3, "allow_advanced_sampling": True}
    guided = llm_arguments(engine(guided_decoding_backend="xgrammar"), is_mxfp4=True)
    assert (guided["guided_decoding_backend"], guided["skip_tokenizer_init"]) == ("xgrammar", False)
