"""The contract of InferenceEngine: one test for all engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from serve_apps.engines.engine import GenerationRequest, InferenceEngine, SamplingParams, TokenChunk
from serve_apps.engines.engine_factory import create_engine
from serve_apps.engines.scripted_engine import ScriptedEngine
from tuneyard.configs.engine import EngineConfig
from tuneyard.configs.engines.tensorrt_llm import TensorRTLLMConfig
from tuneyard.core.errors import EngineError, RequestError

PROMPT = tuple(range(20, 40))
ENGINES = ["scripted", "transformers", "tensorrt_llm", "llama_cpp f32", "llama_cpp q8_0"]


def request(name: str = "r", max_tokens: int = 8, stop: tuple[int, ...] = (), **sampling: Any) -> GenerationRequest:
    params = SamplingParams(max_tokens=max_tokens, **({"temperature": 0.0} | sampling))
    return GenerationRequest(name, PROMPT, params, stop)


async def collect(engine: InferenceEngine, generation: GenerationRequest) -> tuple[list[int], list[TokenChunk]]:
    chunks = [chunk async for chunk in engine.generate(generation)]
    return [token for chunk in chunks for token in chunk.token_ids], chunks


def config_of(engine: str) -> EngineConfig:
    if engine == "tensorrt_llm":
        section = TensorRTLLMConfig(gpu="H100", max_seq_len=8192, max_num_tokens=8192)
        return EngineConfig(engine="tensorrt_llm", tensorrt_llm=section)
    if engine.startswith("llama_cpp"):
        section = {"weights": engine.split()[1], "n_ctx": 8192, "n_parallel": 2}
        return EngineConfig.model_validate({"engine": "llama_cpp", "llama_cpp": section})
    script = (tuple(range(5, 1000)),)
    return EngineConfig.model_validate(
        {"engine": engine, "script": script, "token_interval_s": 0.005, "kv_cache_tokens": 8192}
    )


@pytest.fixture(params=ENGINES)
async def engine(request: pytest.FixtureRequest, tiny_oss: Path) -> AsyncIterator[InferenceEngine]:
    if request.param == "tensorrt_llm":
        request.getfixturevalue("fake_tensorrt_llm")
    engine = create_engine(config_of(request.param), tiny_oss)
    await engine.start()
    yield engine
    await engine.shutdown()


def greedy_tokens(checkpoint: Path, prompts: list[tuple[int, ...]], count: int) -> list[list[int]]:
    """The `count` tokens that transformers' generate() adds to each prompt, greedily, in fp32 on the CPU."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="eager"
    )
    answers = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            output = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count, eos_token_id=-1
            )
        answers.append(output[0, len(prompt) :].tolist())
    return answers


async def wait_until_idle(engine: InferenceEngine) -> None:
    async with asyncio.timeout(5):
        while engine.stats().requests or engine.stats().kv_cache_usage:
            await asyncio.sleep(0.02)


async def test_contract(engine: InferenceEngine) -> None:
    await engine.check_health()
    # An answer has exactly max_tokens tokens, and only the last chunk has a finish_reason.
    tokens, chunks = await collect(engine, request(max_tokens=8))
    assert len(tokens) == 8
    assert [chunk.finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]
    # A stop token ends the answer and is its last token.
    stopped, chunks = await collect(restarted(engine), request("s", max_tokens=8, stop=(tokens[3],)))
    assert stopped == tokens[: tokens.index(tokens[3]) + 1]
    assert chunks[-1].finish_reason == "stop"
    # With a stop token exactly at max_tokens, the reason is "stop".
    one, chunks = await collect(restarted(engine), request("o", max_tokens=1, stop=(tokens[0],)))
    assert (one, chunks[-1].finish_reason) == ([tokens[0]], "stop")
    # A prompt that is too long is refused with both numbers.
    long = GenerationRequest("l", tuple([20] * engine.max_model_len), SamplingParams(4), ())
    with pytest.raises(RequestError, match=rf"{engine.max_model_len} tokens; the context is {engine.max_model_len}"):
        await collect(engine, long)
    # Log-probabilities are reported, one per token, or the request is refused.
    with_logprobs = GenerationRequest("lp", PROMPT, SamplingParams(3, temperature=0.0), (), logprobs=2)
    try:
        tokens, chunks = await collect(engine, with_logprobs)
        assert [entry.token_id for chunk in chunks for entry in chunk.logprobs] == tokens
    except RequestError as e:
        assert e.param == "logprobs"
    # Closing the iterator aborts the request. The whole answer would take longer than wait_until_idle waits.
    endlessly = engine.max_model_len - len(PROMPT)
    endless = engine.generate(request("c", max_tokens=endlessly))
    await anext(endless)
    assert engine.stats().requests == 1
    await endless.aclose()
    await wait_until_idle(engine)
    # Cancelling the task that reads the iterator aborts the request.
    task = asyncio.create_task(collect(engine, request("t", max_tokens=endlessly)))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await wait_until_idle(engine)
    # abort() ends the iterator with finish_reason "abort", and ignores an unknown id.
    await engine.abort("unknown")
    aborted = engine.generate(request("a", max_tokens=endlessly))
    await anext(aborted)
    await engine.abort("a")
    rest = [chunk async for chunk in aborted]
    assert rest[-1].finish_reason == "abort"
    await wait_until_idle(engine)
    # The id can be used again at once, and the new request is not mistaken for the aborted one.
    tokens, chunks = await collect(engine, request("a", max_tokens=5))
    assert (len(tokens), chunks[-1].finish_reason) == (5, "length")
    # A second request with the id of a running one is refused; the first one continues.
    first = engine.generate(request("twice", max_tokens=40))
    await anext(first)
    with pytest.raises(RequestError, match="already running"):
        await collect(engine, request("twice"))
    assert [chunk async for chunk in first][-1].finish_reason == "length"
    # Shutdown ends all running requests and refuses later ones.
    running = engine.generate(request("late", max_tokens=endlessly))
    await anext(running)
    unread = engine.generate(request("unread", max_tokens=endlessly))
    await anext(unread)
    await engine.shutdown()
    await unread.aclose()
    with pytest.raises(EngineError, match="shut down"):
        async for _ in running:
            pass
    with pytest.raises(EngineError, match="shut down"):
        await collect(engine, request("after"))
    with pytest.raises(EngineError):
        await engine.check_health()
    await engine.shutdown()


def restarted(engine: InferenceEngine) -> InferenceEngine:
    """An engine that gives the same tokens for the same prompt again: a scripted one must begin its script anew."""
    return ScriptedEngine([range(5, 1000)]) if isinstance(engine, ScriptedEngine) else engine
