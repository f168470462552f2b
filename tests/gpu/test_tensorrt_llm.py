"""The real TensorRT-LLM: held against the contract, and running the InferenceEngine contract. In the serve image."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from importlib import metadata
from pathlib import Path

import pytest

from serve_apps.engines.engine import InferenceEngine
from serve_apps.engines.engine_factory import create_engine
from tests.serve_apps.engines import test_engine
from tuneyard.configs.serve import EngineConfig
from tuneyard.configs.tensorrt_llm import TensorRTLLMConfig
from tuneyard.planning.local_gpus import known_gpu_here

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorrt_llm") is None,
        reason="TensorRT-LLM is not installed: run this in the serve image",
    ),
]


@pytest.fixture
async def engine(tiny_oss: Path) -> AsyncIterator[InferenceEngine]:
    """On tiny-oss-random, whose head size and heads are those of the large ones."""
    name = known_gpu_here()
    if name is None:
        pytest.skip("a GPU that no config of ours names")
    section = TensorRTLLMConfig.model_validate({"gpu": name, "max_seq_len": 8192, "free_gpu_memory_fraction": 0.3})
    engine = create_engine(EngineConfig(engine="tensorrt_llm", tensorrt_llm=section), tiny_oss)
    await engine.start()
    yield engine
    await engine.shutdown()


def test_the_package_is_what_the_contract_says() -> None:
    from tests.serve_apps.engines.tensorrt_llm_contract import differences

    assert differences(metadata.version("tensorrt_llm")) == []


async def test_contract(engine: InferenceEngine) -> None:
    await test_engine.test_contract(engine)
