"""The real TensorRT-LLM, in the serve image: tensorrt_llm_contract.json, and the contract of InferenceEngine."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from importlib import metadata
from pathlib import Path

import pytest

from serve_apps.engines.engine import InferenceEngine
from serve_apps.engines.engine_factory import create_engine
from tests.serve_apps.engines import test_engine
from tuneyard.configs.engine import EngineConfig
from tuneyard.configs.engines.tensorrt_llm import TensorRTLLMConfig
from tuneyard.planning.local_gpus import known_local_gpu

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorrt_llm") is None,
        reason="TensorRT-LLM is not installed: run this in the serve image",
    ),
]


@pytest.fixture
async def engine(tiny_oss: Path) -> AsyncIterator[InferenceEngine]:
    """Serves tiny-oss-random, whose head size and number of heads are those of the published models."""
    name = known_local_gpu()
    if name is None:
        pytest.skip("no shipped config is for this GPU")
    section = TensorRTLLMConfig.model_validate({"gpu": name, "max_seq_len": 8192, "free_gpu_memory_fraction": 0.3})
    engine = create_engine(EngineConfig(engine="tensorrt_llm", tensorrt_llm=section), tiny_oss)
    await engine.start()
    yield engine
    await engine.shutdown()


def test_the_package_matches_the_contract() -> None:
    from tests.serve_apps.engines.tensorrt_llm_contract import differences

    assert differences(metadata.version("tensorrt_llm")) == []


async def test_contract(engine: InferenceEngine) -> None:
    await test_engine.test_contract(engine)
