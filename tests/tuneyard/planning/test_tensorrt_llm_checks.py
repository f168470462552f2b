"""What TensorRT-LLM cannot run is refused, with both numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tuneyard.configs.engines.tensorrt_llm import TensorRTLLMConfig
from tuneyard.planning.published_models import PUBLISHED
from tuneyard.planning.serve_plan import plan_engine
from tuneyard.planning.tensorrt_llm_checks import parallelism_problems


def engine(**fields: Any) -> TensorRTLLMConfig:
    return TensorRTLLMConfig.model_validate({"gpu": "H100"} | fields)


def test_kernels_that_do_not_run_are_refused(tmp_path: Path) -> None:
    def problems(is_mxfp4: bool, **fields: Any) -> str:
        return "\n".join(plan_engine(engine(**fields), PUBLISHED["20b"], is_mxfp4=is_mxfp4).problems)

    assert "TRTLLM does not run on H100" in problems(True, moe_backend="TRTLLM")
    assert "runs only MXFP4 experts" in problems(False, gpu="B200", moe_backend="TRTLLM")
    assert "TRITON runs only on Hopper" in problems(True, gpu="B200", moe_backend="TRITON")
    (tmp_path / "draft.safetensors").write_bytes(b"\0" * 2**20)
    plain, drafted = (
        plan_engine(engine(**fields), PUBLISHED["20b"], is_mxfp4=True)
        for fields in ({}, {"speculative": {"model": str(tmp_path)}})
    )
    assert drafted.weights_gib - plain.weights_gib == pytest.approx(1 / 1024)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tensor_parallel_size": 3}, "tensor_parallel_size=3 does not divide the model's 64 attention heads"),
        ({"tensor_parallel_size": 6}, "8 key/value heads: neither divides the other"),
        (
            {"tensor_parallel_size": 64, "gpu": "B200", "moe_expert_parallel_size": 64},
            "64 does not divide .* 32 experts",
        ),
        ({"tensor_parallel_size": 2, "moe_expert_parallel_size": 1}, "cannot split an expert"),
    ],
)
def test_gpus_that_do_not_divide_the_model(fields: dict[str, Any], message: str) -> None:
    assert re.search(message, "\n".join(parallelism_problems(engine(**fields), PUBLISHED["20b"])))
