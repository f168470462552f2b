"""A served scripted model: its replies are harmony, spelled out in the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from serve_apps.api.chat_service import ChatService
from serve_apps.engines.scripted_engine import ScriptedEngine
from tests.harmony_text import encode_spelled_out
from tuneyard.harmony.codec import CodecSettings, HarmonyCodec

ServiceFactory = Callable[..., ChatService]


@pytest.fixture(scope="session")
def codec(tiny_oss: Path) -> HarmonyCodec:
    return HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())


@pytest.fixture
def make_service(codec: HarmonyCodec, tiny_oss: Path) -> ServiceFactory:
    def make(*replies: str, **options: Any) -> ChatService:
        script: Sequence[Sequence[int]] = [encode_spelled_out(tiny_oss, reply) for reply in replies]
        return ChatService(ScriptedEngine(script, **options), codec, "tiny", "0123456789abcdef")

    return make


FAKE_TENSORRT_LLM = Path(__file__).parent / "engines" / "fake_tensorrt_llm"


@pytest.fixture(scope="session")
def fake_tensorrt_llm() -> Iterator[None]:
    """The fake package tensorrt_llm, importable here and in processes that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FAKE_TENSORRT_LLM))
        yield
