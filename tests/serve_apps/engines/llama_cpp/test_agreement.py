"""Greedy answers of the llama.cpp engine and of the transformers engine to the same chats, both in fp32."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

from serve_apps.engines.engine import GenerationRequest, SamplingParams
from serve_apps.engines.engine_factory import create_engine
from tests.serve_apps.engines.llama_cpp.exact_engine import EXACT, rounded_copy
from tests.serve_apps.engines.test_engine import collect
from tuneyard.chats.messages import ChatMessage
from tuneyard.configs.engine import EngineConfig
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings

QUESTIONS = (
    "Where is my order?",
    "Can I return a lamp after 40 days?",
    "Hello",
    "Wie lange dauert der Versand nach Österreich?",
    "Write a haiku about lamps, please. Then explain each line in one sentence.",
    "1 2 3 4 5 6 7 8 9 10",
    "配送需要多长时间？",
    "List three colours as JSON.",
)
TOKENS = 48


def prompts(checkpoint: Path) -> list[tuple[int, ...]]:
    """The questions as first turns, and as second turns after an answer to the question before."""
    codec = HarmonyCodec.from_checkpoint(checkpoint, CodecSettings())
    chats = [(ChatMessage(role="user", content=question),) for question in QUESTIONS]
    chats += [
        (*first, ChatMessage(role="assistant", content="It depends."), *second)
        for first, second in itertools.pairwise(chats)
    ]
    return [tuple(codec.render(chat)) for chat in chats]


async def greedy_answers(config: dict[str, Any], checkpoint: Path, prompts: list[tuple[int, ...]]) -> list[list[int]]:
    engine = create_engine(EngineConfig.model_validate(config), checkpoint)
    await engine.start()
    requests = [
        GenerationRequest(f"r{i}", p, SamplingParams(TOKENS, temperature=0.0), ()) for i, p in enumerate(prompts)
    ]
    answers = await asyncio.gather(*(collect(engine, request) for request in requests))
    await engine.shutdown()
    return [tokens for tokens, _ in answers]


@pytest.mark.parametrize(("rounded", "share"), [(True, 1.0), (False, 0.7)])
async def test_greedy_answers_agree(tiny_oss: Path, tmp_path: Path, rounded: bool, share: float) -> None:
    """All of them, if the checkpoint's YaRN bounds are rounded, as llama.cpp always rounds them. GPT-OSS's are not."""
    checkpoint = rounded_copy(tiny_oss, tmp_path / "rounded") if rounded else tiny_oss
    chats = prompts(checkpoint)
    configs: tuple[dict[str, Any], ...] = ({"kv_cache_tokens": 8192}, {"engine": "llama_cpp", "llama_cpp": EXACT})
    reference, answers = [await greedy_answers(config, checkpoint, chats) for config in configs]
    assert [answer[0] for answer in answers] == [answer[0] for answer in reference]
    equal = sum(answer == other for answer, other in zip(answers, reference, strict=True))
    assert equal >= share * len(chats)
