"""An engine without the API: cold start, time to the first token, and tokens/s at several numbers of streams.

Measures the first model of the serve config that TUNEYARD_BENCH_CONFIG names, for example a preset for TensorRT-LLM.
Without the variable, it measures smol-oss-135m with the transformers engine, on a GPU if there is one.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_apps.engines.engine import GenerationRequest, InferenceEngine, SamplingParams
from serve_apps.engines.engine_factory import create_engine
from tests.bench.bases import SMOL, base
from tuneyard.checkpoints.manifest_writer import software_versions
from tuneyard.configs.engine import EngineConfig
from tuneyard.configs.serve import ServeConfig
from tuneyard.core.config_loading import load_config
from tuneyard.planning.local_gpus import describe_gpus

PROMPT_TOKENS, ANSWER_TOKENS = 256, 128
STREAMS = (1, 8, 64, 256)
MAX_CPU_STREAMS = 8
CONFIG_VARIABLE = "TUNEYARD_BENCH_CONFIG"


@dataclass(frozen=True, slots=True)
class _Measurement:
    """One request: seconds to its first token, and its number of tokens."""

    first_token_s: float
    tokens: int


def run() -> dict[str, Any]:
    """Measures the engine; the result also names its config, the GPUs and the software versions."""
    config, checkpoint = _engine_and_checkpoint()
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


def _engine_and_checkpoint() -> tuple[EngineConfig, Path]:
    config_path = os.environ.get(CONFIG_VARIABLE)
    if config_path is not None:
        from tuneyard.checkpoints.node_cache import local_folder
        from tuneyard.checkpoints.references import resolve_checkpoint

        model = load_config(ServeConfig, Path(config_path)).models[0]
        return model.engine, local_folder(resolve_checkpoint(model.checkpoint))
    on_gpu = bool(describe_gpus())
    cache_tokens = (PROMPT_TOKENS + ANSWER_TOKENS) * (max(STREAMS) if on_gpu else MAX_CPU_STREAMS)
    config = EngineConfig(
        dtype="bfloat16" if on_gpu else "float32",
        kv_cache_tokens=cache_tokens,
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
        await measure_streams(engine, 1, "warm-up")
        for count in streams:
            rows.append(await measure_streams(engine, count, f"s{count}"))
    finally:
        await engine.shutdown()
    return cold, rows


async def measure_streams(
    engine: InferenceEngine, count: int, name: str, prompt: int = PROMPT_TOKENS, answer: int = ANSWER_TOKENS
) -> dict[str, Any]:
    """Sends `count` requests of `prompt` tokens at once, for `answer` tokens each.

    The prompts of all names differ from the first token, so that no prefix is shared.
    """
    started = time.monotonic()
    requests = (_one(engine, f"{name}-{index}", prompt, answer) for index in range(count))
    measurements = await asyncio.gather(*requests)
    took = time.monotonic() - started
    firsts = sorted(each.first_token_s for each in measurements)
    return {
        "streams": count,
        "first_token_p50_s": statistics.median(firsts),
        "first_token_max_s": firsts[-1],
        "output_tokens_per_s": sum(each.tokens for each in measurements) / took,
    }


def prompt_tokens(name: str, length: int) -> list[int]:
    """Ids that differ for each name from the first one on."""
    first_token = zlib.crc32(name.encode())
    return [100 + (first_token + 31 * position) % 10_000 for position in range(length)]


async def _one(engine: InferenceEngine, name: str, length: int, answer: int) -> _Measurement:
    request = GenerationRequest(name, tuple(prompt_tokens(name, length)), SamplingParams(answer, temperature=0.0), ())
    started = time.monotonic()
    first, tokens = None, 0
    async for chunk in engine.generate(request):
        if chunk.token_ids:
            first = first or time.monotonic() - started
        tokens += len(chunk.token_ids)
    assert first is not None
    return _Measurement(first, tokens)
