"""Output tokens/s of the served API at 8 streams, compared with the bare engine in the same run; memory in use."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

import openai
import psutil

from serve_apps.engines.engine import GenerationRequest, SamplingParams
from serve_apps.engines.engine_factory import create_engine
from serve_apps.lifecycle import Deployment
from tests.bench.bases import SMOL, base
from tuneyard.chats.dataset import load_chat_dataset
from tuneyard.cluster.connection import CHECKOUT
from tuneyard.configs.serve import ModelAppConfig, ServeConfig
from tuneyard.core.config_loading import load_config
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings

STREAMS, TOKENS, ROUNDS = 8, 32, 3
CONFIG = CHECKOUT / "serve_apps" / "configs" / "demo_cpu.yaml"
BASE = SMOL


def run() -> dict[str, Any]:
    """Alternates rounds through the API and on the bare engine, with the base model: no finetuning is needed."""
    config = load_config(ServeConfig, CONFIG)
    config = config.model_copy(update={"models": tuple(m for m in config.models if m.model_id == BASE)})
    base(BASE)
    chats = load_chat_dataset(str(CHECKOUT / "jobs" / "data" / "brindle_heldout.jsonl")).examples[:STREAMS]
    with Deployment(config, address="local") as deployment:
        (url,) = deployment.base_urls
        rates = asyncio.run(_measure(url, config.models[0], chats))
        resident = replica_rss()
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "streams": STREAMS,
        "output_tokens_per_s": rates,
        "ratio_api_to_engine": medians["api"] / medians["engine"],
        "replica_rss_mib": resident // 2**20,
    }


async def _measure(url: str, model: ModelAppConfig, chats: list[Any]) -> dict[str, list[float]]:
    checkpoint = base(BASE)
    codec = HarmonyCodec.from_checkpoint(checkpoint, model.codec or CodecSettings())
    engine = create_engine(model.engine, checkpoint)
    await engine.start()
    rates: dict[str, list[float]] = {"api": [], "engine": []}
    try:
        async with openai.AsyncOpenAI(base_url=url, api_key="none", timeout=600) as client:
            for number in range(ROUNDS + 1):
                engine_rate = await _timed([_engine_tokens(engine, codec, chat, number) for chat in chats])
                api_rate = await _timed([_api_tokens(client, chat) for chat in chats])
                if number:  # the first round warms both up
                    rates["engine"].append(engine_rate)
                    rates["api"].append(api_rate)
    finally:
        await engine.shutdown()
    return rates


async def _timed(requests: list[Any]) -> float:
    """Tokens per second of requests that each return their number of tokens."""
    started = time.monotonic()
    tokens = sum(await asyncio.gather(*requests))
    return tokens / (time.monotonic() - started)


async def _engine_tokens(engine: Any, codec: HarmonyCodec, chat: Any, number: int) -> int:
    prompt = tuple(codec.render(chat.messages[:-1]))
    request = GenerationRequest(f"{number}-{chat.source}", prompt, SamplingParams(TOKENS, temperature=0.0), ())
    return sum([len(chunk.token_ids) async for chunk in engine.generate(request)])


async def _api_tokens(client: openai.AsyncOpenAI, chat: Any) -> int:
    stream = await client.chat.completions.create(
        model=BASE,
        messages=[{"role": m.role, "content": m.content} for m in chat.messages[:-1]],
        temperature=0,
        max_tokens=TOKENS,
        stream=True,
        stream_options={"include_usage": True},
    )
    return sum([chunk.usage.completion_tokens if chunk.usage else 0 async for chunk in stream])


def replica_rss() -> int:
    """Resident memory in bytes of the largest replica process on this machine."""
    return max(p.memory_info().rss for p in psutil.process_iter() if "ServeReplica" in " ".join(_cmdline(p)))


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
