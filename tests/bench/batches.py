"""Output tokens/s of /v1/batches on an idle model, compared with the bare engine in the same run; and without a model's
work: requests/s of a batch over an engine that answers at once.

The time of a batch is a client's: from its creation until its files can be read.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openai

from serve_apps.engines.engine import GenerationRequest, SamplingParams
from serve_apps.engines.engine_factory import create_engine
from serve_apps.lifecycle import Deployment
from tests.bench.bases import SMOL, TINY, base
from tests.harmony_text import encode_spelled_out
from tuneyard.chats.dataset import load_chat_dataset
from tuneyard.cluster.connection import CHECKOUT
from tuneyard.configs.engine import EngineConfig
from tuneyard.configs.serve import ServeConfig
from tuneyard.core.config_loading import load_config
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings

ROWS, TOKENS, ROUNDS = 96, 32, 3
CONFIG = CHECKOUT / "serve_apps" / "configs" / "demo_cpu.yaml"
INSTANT_ROWS = 5000
POLL_S = 0.2
PORT = 18441


def run() -> dict[str, Any]:
    """Alternates rounds through batches and on the bare engine, with the base model; then the instant engine."""
    chats = load_chat_dataset(str(CHECKOUT / "jobs" / "data" / "brindle_heldout.jsonl")).examples
    demo = load_config(ServeConfig, CONFIG)
    model = next(model for model in demo.models if model.model_id == SMOL).model_copy(update={"route_prefix": None})
    script = [encode_spelled_out(base(TINY), "<|channel|>final<|message|>ok<|return|>")]
    instant: dict[str, Any] = {
        "model_id": "instant",
        "checkpoint": str(base(TINY)),
        "engine": {"engine": "scripted", "script": script},
        "replicas": {"num_cpus": 0.4},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "serve.yaml"
        section = {"path": f"{folder}/platform.db", "files": f"{folder}/files"}
        models = [model.model_dump(mode="json", exclude_unset=True), instant]
        path.write_text(json.dumps({"http": {"port": PORT}, "models": models, "platform": section}), encoding="utf-8")
        with Deployment(load_config(ServeConfig, path), address="local"):
            url = f"http://127.0.0.1:{PORT}/v1"
            result = asyncio.run(_measure(url, model.engine, model.codec or CodecSettings(), chats))
    return {"rows": ROWS, "tokens_per_answer": TOKENS, **result}


async def _measure(
    url: str, engine_config: EngineConfig, settings: CodecSettings, chats: Sequence[Any]
) -> dict[str, Any]:
    checkpoint = base(SMOL)
    codec = HarmonyCodec.from_checkpoint(checkpoint, settings)
    prompts = [[{"role": m.role, "content": m.content} for m in chat.messages[:-1]] for chat in chats]
    rendered = [tuple(codec.render(chats[n % len(chats)].messages[:-1])) for n in range(ROWS)]
    engine = create_engine(engine_config, checkpoint)
    await engine.start()
    rates: dict[str, list[float]] = {"batch": [], "engine": []}
    try:
        async with openai.AsyncOpenAI(base_url=url, api_key="none", timeout=600) as client:
            for number in range(ROUNDS):
                rates["engine"].append(await _engine_rate(engine, rendered, number))
                rows = [_row(n, SMOL, prompts[n % len(prompts)], TOKENS) for n in range(ROWS)]
                seconds, tokens = await _run_batch(client, rows)
                rates["batch"].append(tokens / seconds)
            rows = [_row(n, "instant", prompts[0], 1) for n in range(INSTANT_ROWS)]
            seconds, _ = await _run_batch(client, rows)
    finally:
        await engine.shutdown()
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "output_tokens_per_s": rates,
        "ratio_batch_to_engine": medians["batch"] / medians["engine"],
        "instant_engine": {"rows": INSTANT_ROWS, "requests_per_s": INSTANT_ROWS / seconds},
    }


async def _engine_rate(engine: Any, prompts: list[tuple[int, ...]], number: int) -> float:
    """Output tokens per second of the bare engine, which gets all requests at once."""

    async def answer(index: int, prompt: tuple[int, ...]) -> int:
        request = GenerationRequest(f"{number}-{index}", prompt, SamplingParams(TOKENS, temperature=0.0), ())
        return sum([len(chunk.token_ids) async for chunk in engine.generate(request)])

    started = time.monotonic()
    tokens = sum(await asyncio.gather(*(answer(index, prompt) for index, prompt in enumerate(prompts))))
    return tokens / (time.monotonic() - started)


def _row(number: int, model: str, messages: list[Any], max_tokens: int) -> dict[str, Any]:
    body = {"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": 0}
    return {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body}


async def _run_batch(client: openai.AsyncOpenAI, rows: list[dict[str, Any]]) -> tuple[float, int]:
    """Seconds and output tokens of a batch, all of whose requests are answered."""
    content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    file = await client.files.create(file=("requests.jsonl", content), purpose="batch")
    started = time.monotonic()
    batch = await client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    while batch.status not in ("completed", "failed"):
        await asyncio.sleep(POLL_S)
        batch = await client.batches.retrieve(batch.id)
    seconds = time.monotonic() - started
    assert batch.request_counts is not None
    assert batch.usage is not None
    assert batch.request_counts.completed == len(rows), batch
    return seconds, batch.usage.output_tokens
