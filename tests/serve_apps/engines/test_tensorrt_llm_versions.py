"""The versions in tensorrt_llm_contract.json: each column, and the engine on the fake as that version."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from serve_apps.engines.engine_factory import create_engine
from tests.serve_apps.engines.tensorrt_llm_contract import contract, differences, field_names, resolve, versions
from tests.serve_apps.engines.test_engine import PROMPT, collect, greedy_tokens, request
from tuneyard.configs.engine import EngineConfig
from tuneyard.configs.engines.tensorrt_llm import TensorRTLLMConfig
from tuneyard.core.errors import ConfigError, EngineError

pytestmark = pytest.mark.usefixtures("fake_tensorrt_llm")


@pytest.fixture(params=versions())
def version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each version of the contract in turn, which the fake then is."""
    monkeypatch.setattr("tensorrt_llm.__version__", request.param)
    return str(request.param)


@contextlib.asynccontextmanager
async def started(checkpoint: Path, **fields: Any) -> AsyncIterator[Any]:
    section = TensorRTLLMConfig.model_validate({"gpu": "H100", "max_seq_len": 2048} | fields)
    engine = create_engine(EngineConfig(engine="tensorrt_llm", tensorrt_llm=section), checkpoint)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.shutdown()


def test_the_fake_has_what_the_column_lists_and_no_more(version: str) -> None:
    assert differences(version) == []
    for path, names in contract(version)["fields"].items():
        assert sorted(field_names(resolve(path))) == names, path
    assert contract(version)["read"]


async def test_it_answers_and_warns_of_what_is_unproved(
    version: str, tiny_oss: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("TRTLLM_NO_USAGE_STATS", raising=False)
    with caplog.at_level(logging.WARNING, "serve_apps.engines.tensorrt_llm_compatibility"):
        async with started(tiny_oss) as engine:
            tokens, _ = await collect(engine, request("r", 12))
    assert [tokens] == greedy_tokens(tiny_oss, [PROMPT], 12)
    warnings = [r.getMessage() for r in caplog.records if r.name == "serve_apps.engines.tensorrt_llm_compatibility"]
    unproved = contract(version).get("unproved")
    assert warnings == (
        [f"TensorRT-LLM {version}: {unproved}. Run `make test-gpu` before you rely on it."] if unproved else []
    )
    assert os.environ["TRTLLM_NO_USAGE_STATS"] == "1"


async def test_usage_reports_stay_where_the_environment_wants_them(
    tiny_oss: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRTLLM_NO_USAGE_STATS", "0")
    async with started(tiny_oss):
        assert os.environ["TRTLLM_NO_USAGE_STATS"] == "0"


@pytest.mark.parametrize("other", ["1.2.1.post1", "1.3.0rc28", "1.3.0rc30", "1.3.0", "1.4.0rc1", "1.4.0rc4"])
async def test_a_version_without_a_column_is_refused(
    other: str, tiny_oss: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensorrt_llm.__version__", other)
    expected = rf"TensorRT-LLM {other} is installed; this adapter was written for 1\.2\.1 and 1\.3\.0rc29"
    with pytest.raises(ConfigError, match=expected):
        async with started(tiny_oss):
            pass


async def test_a_dead_worker_of_1_3_ends_every_request_long_before_the_stall(
    tiny_oss: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensorrt_llm.__version__", "1.3.0rc29")
    async with started(tiny_oss, max_batch_size=2, stall_timeout_s=600) as engine, asyncio.timeout(20):
        running = [asyncio.create_task(collect(engine, request(f"r{i}", max_tokens=2000))) for i in range(3)]
        while engine.stats().requests < 3:
            await asyncio.sleep(0.02)
        engine._llm.worker.crash()
        for result in await asyncio.gather(*running, return_exceptions=True):
            assert isinstance(result, EngineError)
            assert "illegal memory access" in str(result)
        with pytest.raises(EngineError, match="illegal memory access"):
            await collect(engine, request("later"))
        with pytest.raises(EngineError):
            await engine.check_health()
