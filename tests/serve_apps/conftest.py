"""A served model whose engine replies with harmony text that the test spells out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_apps.api.routes import ApiOptions, create_api
from serve_apps.engine_wrappers.measured_engine import MeasuredEngine
from serve_apps.engines.engine_factory import create_engine
from serve_apps.engines.scripted_engine import ScriptedEngine
from serve_apps.generation.served_model import ServedModel
from tests.harmony_text import encode_spelled_out
from tuneyard.configs.engine import EngineConfig
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings

ModelFactory = Callable[..., ServedModel]


@pytest.fixture(scope="session")
def codec(tiny_oss: Path) -> HarmonyCodec:
    return HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())


@pytest.fixture
def make_model(codec: HarmonyCodec, tiny_oss: Path) -> ModelFactory:
    """Makes a model named `tiny` that gives the replies in turn; options are ScriptedEngine's."""

    def make(*replies: str, **options: Any) -> ServedModel:
        script: Sequence[Sequence[int]] = [encode_spelled_out(tiny_oss, reply) for reply in replies]
        return ServedModel(ScriptedEngine(script, **options), codec, "tiny", "0123456789abcdef")

    return make


@pytest.fixture
async def tiny_client(tiny_oss: Path, codec: HarmonyCodec) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the whole API of `tiny`, tiny-oss-random in the transformers engine."""
    engine = MeasuredEngine(create_engine(EngineConfig(kv_cache_tokens=4096), tiny_oss), "tiny", "tiny/1")
    await engine.start()
    model = ServedModel(engine, codec, "tiny", "0123456789abcdef")
    api = create_api(model, ApiOptions(collect_metrics=engine.metrics, headers={"X-Tuneyard-Run": "r1"}))
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
        yield client
    await engine.shutdown()


FAKE_TENSORRT_LLM = Path(__file__).parent / "engines" / "fake_tensorrt_llm"


@pytest.fixture(scope="session")
def fake_tensorrt_llm() -> Iterator[None]:
    """The fake package tensorrt_llm, importable here and in processes that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FAKE_TENSORRT_LLM))
        yield
