"""Servers for the SDKs, one with scripted answers and one with a real engine; and OpenAI's client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from serve_apps.engines.engine_factory import create_engine
from tests.integration.sdks.scripted_server import serve_script
from tests.integration.served_api import ServedApi
from tuneyard.configs.engine import EngineConfig
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings


@pytest.fixture(scope="session")
def codec(tiny_oss: Path) -> HarmonyCodec:
    return HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())


@pytest.fixture
def scripted(codec: HarmonyCodec, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ServedApi]:
    """A server that stores responses, whose answers are the replies in the test's parameter, in turn."""
    with serve_script(codec, request.param, tmp_path) as served:
        yield served


@pytest.fixture
def client(scripted: ServedApi) -> Iterator[openai.OpenAI]:
    """OpenAI's client of the server with scripted answers."""
    with openai.OpenAI(base_url=f"{scripted.root}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="package")
def real(tiny_oss: Path, codec: HarmonyCodec) -> Iterator[ServedApi]:
    """A server with the transformers engine."""
    served = ServedApi(create_engine(EngineConfig(kv_cache_tokens=8192), tiny_oss), codec)
    yield served
    served.stop()
