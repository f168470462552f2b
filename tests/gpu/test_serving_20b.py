"""The transformers engine with a model of 20B's exact shapes and random weights: decoding and prefill."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from tests.gpu.random_gpt_oss import build_on_gpu, free_gpu, peak_gib, published_config
from tuneyard.configs.engine import EngineConfig

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        transformers.__version__.startswith("4."), reason="transformers 4 lacks this continuous batching"
    ),
]
Record = Callable[[str, dict[str, Any]], None]
STREAMS = (1, 8, 32)
PROMPT_TOKENS, ANSWER_TOKENS, LONG_PROMPT = 256, 64, 4096
CONFIG = EngineConfig(dtype="bfloat16", kv_cache_tokens=16_384, max_batch_tokens=4096, max_concurrent_requests=32)


@pytest.mark.parametrize("layers", [2, None], ids=["slice", "20b"])
def test_engine(layers: int | None, record: Record, tmp_path: Path) -> None:
    pytest.importorskip("llguidance")
    published_config(layers).save_pretrained(tmp_path)
    free_gpu()
    result = asyncio.run(_measure(tmp_path, layers))
    record(f"{'20b' if layers is None else 'slice'}-engine", result | peak_gib())
    free_gpu()


async def _measure(folder: Path, layers: int | None) -> dict[str, Any]:
    from serve_apps.engines.transformers_engine import PAGED_ATTENTION, TransformersEngine
    from tests.bench.engine import measure_streams

    engine = TransformersEngine(CONFIG, folder, lambda *_: build_on_gpu(published_config(layers), PAGED_ATTENTION))
    started = time.monotonic()
    await engine.start()
    result: dict[str, Any] = {"start_s": round(time.monotonic() - started, 1), "config": CONFIG.model_dump(mode="json")}
    try:
        await measure_streams(engine, 1, "warm-up", PROMPT_TOKENS, 8)
        rows = [await measure_streams(engine, n, f"s{n}", PROMPT_TOKENS, ANSWER_TOKENS) for n in STREAMS]
        result |= {"prompt_tokens": PROMPT_TOKENS, "answer_tokens": ANSWER_TOKENS, "streams": rows}
        await measure_streams(engine, 1, "long-warm-up", LONG_PROMPT, 1)
        prefill = await measure_streams(engine, 1, "long", LONG_PROMPT - 1, 1)
        result["prefill_tokens_per_s"] = round(LONG_PROMPT / prefill["first_token_p50_s"], 1)
    finally:
        await engine.shutdown()
    return result
