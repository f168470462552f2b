"""An engine by itself: cold start, time to the first token, tokens/s at several numbers of streams.

Of the deployment that TUNEYARD_BENCH_CONFIG names, such as a preset of TensorRT-LLM; else of smol-oss-135m with the
transformers engine, on what there is.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_apps.engines.engine import GenerationRequest, InferenceEngine, SamplingParams
from serve_apps.engines.engine_factory import create_engine
from tests.bench.bases import SMOL, base
from tuneyard.checkpoints.manifest import software_versions
from tuneyard.configs.serve import EngineConfig, ServeConfig
from tuneyard.core.config_loading import load_config
from tuneyard.planning.local_gpus import describe_gpus

PROMPT_TOKENS, ANSWER_TOKENS = 256, 128
STREAMS = (1, 8, 64, 256)
MAX_CPU_STREAMS = 8
CONFIG_VARIABLE = "TUNEYARD_BENCH_CONFIG"


@dataclass(frozen=True, slots=True)
class _Timed:
    first_token_s: float
    tokens: int


def run() -> dict[str, Any]:
    """Of the deployment that TUNEYARD_BENCH_CONFIG names, else of smol-oss-135m with the transformers engine."""
    config, checkpoint = _what()
    gpus = describe_gpus()
    streams = STREAMS if gpus else tuple(n for n in STREAMS if n <= MAX_CPU_STREAMS)
    cold, rows = asyncio.run(_measure(config, checkpoint, streams))
    return {
        "engine": config.engine,
        "config": config.model_dump(mode="json"),
        "checkpoint": checkpoint.name,
        "gpus": gpus,
        "software": software_versions("tuneyard", "torch", "transformers", "tensorrt_llm"),
        "prompt_tokens": PROMPT_TOKENS,
        "answer_tokens": ANSWER_TOKENS,
        "cold_start_s": cold,
        "streams": rows,
    }


def _what() -> tuple[EngineConfig, Path]:
    named = os.environ.get(CONFIG_VARIABLE)
    if named is not None:
        from tuneyard.checkpoints.node_cache import local_folder
        from tuneyard.checkpoints.references import resolve_checkpoint

        model = load_config(ServeConfig, Path(named)).models[0]
        return model.engine, local_folder(resolve_checkpoint(model.checkpoint))
    on_gpu = bool(describe_gpus())
    room = (PROMPT_TOKENS + ANSWER_TOKENS) * (max(STREAMS) if on_gpu else MAX_CPU_STREAMS)
    config = EngineConfig(
        dtype="bfloat16" if on_gpu else "float32",
        kv_cache_tokens=room,
        max_batch_tokens=8192 if on_gpu else 512,
        max_concurrent_requests=max(STREAMS),
    )
    return config, base(SMOL)


async def _measure(
    config: EngineConfig, checkpoint: Path, streams: tuple[int, ...]
) -> tuple[float, list[dict[str, Any]]]:
    started = time.monotonic()
    engine = create_engine(config, checkpoint)
    await engine.start()
    cold = time.monotonic() - started
    rows = []
    try:
        await _batch(engine, 1, "warm-up")
        for count in streams:
            rows.append(await _batch(engine, count, f"s{count}"))
    finally:
        await engine.shutdown()
    return cold, rows


async def _batch(engine: InferenceEngine, count: int, name: str) -> dict[str, Any]:
    """`count` requests at once, each with a prompt of its own, so that no prefix is shared."""
    started = time.monotonic()
    timed = await asyncio.gather(*(_one(engine, f"{name}-{index}", index) for index in range(count)))
    took = time.monotonic() - started
    firsts = sorted(each.first_token_s for each in timed)
    return {
        "streams": count,
        "first_token_p50_s": statistics.median(firsts),
        "first_token_max_s": firsts[-1],
        "output_tokens_per_s": sum(each.tokens for each in timed) / took,
    }


async def _one(engine: InferenceEngine, name: str, index: int) -> _Timed:
    prompt = tuple(100 + (7919 * (index + 1) + 31 * place) % 10_000 for place in range(PROMPT_TOKENS))
    asked = GenerationRequest(name, prompt, SamplingParams(ANSWER_TOKENS, temperature=0.0), ())
    started = time.monotonic()
    first, tokens = None, 0
    async for chunk in engine.generate(asked):
        first = first or time.monotonic() - started
        tokens += len(chunk.token_ids)
    assert first is not None
    return _Timed(first, tokens)
