"""A model and its engine must agree on the engine and the number of GPUs."""

from __future__ import annotations

from typing import Any

import pytest

from tuneyard.configs.engine import EngineConfig
from tuneyard.configs.serve import ModelAppConfig
from tuneyard.configs.tensorrt_llm import TensorRTLLMConfig


def engine(**fields: Any) -> TensorRTLLMConfig:
    return TensorRTLLMConfig.model_validate({"gpu": "H100"} | fields)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"engine": {"engine": "tensorrt_llm"}}, "is for engine: tensorrt_llm only"),
        ({"engine": {"tensorrt_llm": {"gpu": "H100"}}}, "found engine: transformers"),
        (
            {"engine": {"engine": "tensorrt_llm", "tensorrt_llm": {"gpu": "H100"}, "threads": 2}},
            "threads is not a field",
        ),
        (
            {"engine": {"engine": "tensorrt_llm", "tensorrt_llm": {"gpu": "H100"}}, "replicas": {"num_gpus": 2}},
            r"num_gpus=2\.0, but the engine takes tensor_parallel_size=1",
        ),
    ],
)
def test_a_model_and_its_engine(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelAppConfig.model_validate({"model_id": "m", "checkpoint": "c"} | model)


def test_other_engines_keep_their_fields() -> None:
    assert EngineConfig(threads=2).gpus == 0
    model = ModelAppConfig(model_id="m", checkpoint="c")
    assert model.gpus_per_replica == 0
