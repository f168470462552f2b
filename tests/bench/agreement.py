"""Greedy answers of the llama.cpp engine against those of the transformers engine, on the demo's held-out chats.

Needs the demo's finetuned model (`make demo`).
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from serve_apps.engines.engine import GenerationRequest, SamplingParams
from serve_apps.engines.engine_factory import create_engine
from tuneyard.chats.dataset import load_chat_dataset
from tuneyard.checkpoints.manifest import read_manifest
from tuneyard.checkpoints.registry import ModelRegistry
from tuneyard.cluster.connection import CHECKOUT
from tuneyard.configs.engine import EngineConfig
from tuneyard.configs.engines.llama_cpp import LlamaCppConfig
from tuneyard.core.home import tuneyard_home
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings

TOKENS, THREADS = 64, 2
FORMS = ("f32", "bf16", "q8_0")


def run() -> dict[str, Any]:
    """For each form of the weights: the shares (0 to 1) of answers, and of their tokens, that are the same.

    A token counts as the same if all tokens of its answer before it are.
    """
    version = ModelRegistry(tuneyard_home()).find("brindle-support@newest")
    checkpoint = Path(version.checkpoint)
    trained = read_manifest(checkpoint).codec
    assert trained is not None
    codec = HarmonyCodec.from_checkpoint(checkpoint, CodecSettings.model_validate(trained.settings))
    chats = load_chat_dataset(str(CHECKOUT / "jobs" / "data" / "brindle_heldout.jsonl")).examples
    prompts = list(dict.fromkeys(tuple(codec.render(chat.messages[:-1])) for chat in chats))
    stops = tuple(codec.stop_token_ids)
    expected = asyncio.run(_answers(EngineConfig(threads=THREADS), checkpoint, prompts, stops))
    result: dict[str, Any] = {"checkpoint": f"{version.name}/{version.version}", "chats": len(prompts)}
    for form in FORMS:
        section = LlamaCppConfig.model_validate({"weights": form, "n_threads": THREADS, "n_parallel": 8})
        config = EngineConfig(engine="llama_cpp", llama_cpp=section)
        answers = asyncio.run(_answers(config, checkpoint, prompts, stops))
        pairs = list(zip(answers, expected, strict=True))
        same = sum(_common_length(*pair) for pair in pairs)
        result[form] = {
            "same_answers": sum(ours == theirs for ours, theirs in pairs) / len(pairs),
            "same_tokens": same / sum(len(theirs) for theirs in expected),
        }
    return result


async def _answers(
    config: EngineConfig, checkpoint: Path, prompts: list[tuple[int, ...]], stops: tuple[int, ...]
) -> list[list[int]]:
    engine = create_engine(config, checkpoint)
    await engine.start()

    async def answer(number: int, prompt: tuple[int, ...]) -> list[int]:
        request = GenerationRequest(f"r{number}", prompt, SamplingParams(TOKENS, temperature=0.0), stops)
        return [token async for chunk in engine.generate(request) for token in chunk.token_ids]

    try:
        return list(await asyncio.gather(*(answer(number, prompt) for number, prompt in enumerate(prompts))))
    finally:
        await engine.shutdown()


def _common_length(left: list[int], right: list[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
