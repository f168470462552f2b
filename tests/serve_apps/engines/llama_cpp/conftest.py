"""Started llama.cpp engines over tiny-oss-random."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from serve_apps.engines.engine_factory import create_engine
from tests.serve_apps.engines.llama_cpp.exact_engine import EXACT, EngineFactory, rounded_copy
from tuneyard.configs.engine import EngineConfig


@pytest.fixture(scope="module")
def rounded_oss(tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny-oss-random with YaRN's bounds rounded, as llama.cpp always rounds them: both engines compute one model."""
    return rounded_copy(tiny_oss, tmp_path_factory.mktemp("models") / "tiny-oss-rounded")


@pytest.fixture
async def make_engine(rounded_oss: Path) -> AsyncIterator[EngineFactory]:
    """Creates started engines that compute in fp32, which are shut down at the end of the test."""
    started = []

    async def make(checkpoint: Path = rounded_oss, **fields: Any) -> Any:
        config = EngineConfig.model_validate({"engine": "llama_cpp", "llama_cpp": EXACT | fields})
        engine = create_engine(config, checkpoint)
        started.append(engine)
        await engine.start()
        return engine

    yield make
    for engine in started:
        await engine.shutdown()


@pytest.fixture
async def engine(make_engine: EngineFactory) -> Any:
    return await make_engine()
