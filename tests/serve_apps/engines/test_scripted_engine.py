"""The scripted engine: invalid scripts and crashes."""

from __future__ import annotations

import asyncio

import pytest

from serve_apps.engines.scripted_engine import ScriptedEngine
from tests.serve_apps.engines.test_engine import collect, request
from tuneyard.core.errors import ConfigError, EngineError


@pytest.mark.parametrize("script", [[], [[5], []]])
def test_a_script_without_tokens_is_a_config_error(script: list[list[int]]) -> None:
    with pytest.raises(ConfigError, match=r"engine\.script"):
        ScriptedEngine(script)


async def test_a_crash_reaches_every_request() -> None:
    engine = ScriptedEngine([range(5, 1000)], crash_after_tokens=10)
    tasks = [asyncio.create_task(collect(engine, request(f"r{i}", max_tokens=50))) for i in range(3)]
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, EngineError)
    with pytest.raises(EngineError, match="crashed"):
        await engine.check_health()
    await asyncio.sleep(0)
    assert engine.stats().requests == 0
