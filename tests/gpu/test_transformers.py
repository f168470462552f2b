"""The transformers engine and backend on CUDA: their contracts, and the same tokens as on a CPU."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import transformers

from serve_apps.engines.engine import GenerationRequest, InferenceEngine, SamplingParams
from serve_apps.engines.engine_factory import create_engine
from tests.jobs.training.backend_contract import backend_config, check_contract, token_rows
from tests.jobs.training.sharding.worker_group import group_of_one
from tests.serve_apps.engines import test_engine
from tuneyard.configs.engine import EngineConfig

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        transformers.__version__.startswith("4."),
        reason="transformers 4.57 of the serve image lacks this continuous batching",
    ),
]


@pytest.fixture
async def engine(tiny_oss: Path) -> AsyncIterator[InferenceEngine]:
    engine = create_engine(EngineConfig(kv_cache_tokens=8192), tiny_oss)
    await engine.start()
    yield engine
    await engine.shutdown()


async def test_contract(engine: InferenceEngine) -> None:
    await test_engine.test_contract(engine)


async def test_greedy_tokens_are_those_of_a_cpu(engine: InferenceEngine, tiny_oss: Path) -> None:
    """In fp32 on both, where only near-ties could differ; this random model has none."""
    prompt = tuple(range(20, 60))
    request = GenerationRequest("g", prompt, SamplingParams(24, temperature=0.0), ())
    tokens, _ = await test_engine.collect(engine, request)
    assert [tokens] == test_engine.greedy_tokens(tiny_oss, [prompt], 24)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_backend_contract(precision: str, tiny_oss: Path, tmp_path: Path) -> None:
    config = backend_config(tiny_oss, precision=precision)
    on_gpu = config.model_copy(update={"workers": config.workers.model_copy(update={"use_gpu": True})})
    check_contract(on_gpu, token_rows(tiny_oss), tmp_path)


def test_sharded_backend_contract(tiny_oss: Path, tmp_path: Path) -> None:
    """FSDP2 in bf16 in a group of one process: layers are gathered and divided, but no other GPU takes part."""
    config = backend_config(tiny_oss, sharding="fsdp2")
    on_gpu = config.model_copy(update={"workers": config.workers.model_copy(update={"use_gpu": True})})
    with group_of_one(tmp_path, "nccl"):
        check_contract(on_gpu, token_rows(tiny_oss), tmp_path)
