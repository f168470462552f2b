"""The InferenceEngine contract, one test for every engine, and what only the real one can show."""

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
from serve_apps.engines.running_requests import check_request
from serve_apps.engines.scripted_engine import ScriptedEngine
from tuneyard.configs.serve import EngineConfig
from tuneyard.configs.tensorrt_llm import TensorRTLLMConfig
from tuneyard.core.errors import ConfigError, EngineError, RequestError

PROMPT = tuple(range(20, 40))
ENGINES = ["scripted", "transformers", "tensorrt_llm"]


def request(name: str = "r", max_tokens: int = 8, stop: tuple[int, ...] = (), **sampling: Any) -> GenerationRequest:
    params = SamplingParams(max_tokens=max_tokens, **({"temperature": 0.0} | sampling))
    return GenerationRequest(name, PROMPT, params, stop)


async def collect(engine: InferenceEngine, asked: GenerationRequest) -> tuple[list[int], list[TokenChunk]]:
    chunks = [chunk async for chunk in engine.generate(asked)]
    return [token for chunk in chunks for token in chunk.token_ids], chunks


def config_of(engine: str) -> EngineConfig:
    if engine == "tensorrt_llm":
        section = TensorRTLLMConfig(gpu="H100", max_seq_len=8192, max_num_tokens=8192)
        return EngineConfig(engine="tensorrt_llm", tensorrt_llm=section)
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


async def wait_until_idle(engine: InferenceEngine) -> None:
    async with asyncio.timeout(5):
        while engine.stats().requests or engine.stats().kv_cache_usage:
            await asyncio.sleep(0.02)


async def test_contract(engine: InferenceEngine) -> None:
    await engine.check_health()
    # Exactly max_tokens, the reason on the last chunk only.
    tokens, chunks = await collect(engine, request(max_tokens=8))
    assert len(tokens) == 8
    assert [chunk.finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]
    # A stop token ends the answer and belongs to it.
    fresh = create_twin(engine) or engine
    stopped, chunks = await collect(fresh, request("s", max_tokens=8, stop=(tokens[3],)))
    assert stopped == tokens[: tokens.index(tokens[3]) + 1]
    assert chunks[-1].finish_reason == "stop"
    # A single token, and a stop token exactly at the limit: it stopped.
    one, chunks = await collect(create_twin(engine) or engine, request("o", max_tokens=1, stop=(tokens[0],)))
    assert (one, chunks[-1].finish_reason) == ([tokens[0]], "stop")
    # Too long a prompt is refused with both numbers, before anything happens.
    long = GenerationRequest("l", tuple([20] * engine.max_model_len), SamplingParams(4), ())
    with pytest.raises(RequestError, match=rf"{engine.max_model_len} tokens; the context is {engine.max_model_len}"):
        await collect(engine, long)
    # Log-probabilities are given, one per token, or refused.
    with_logprobs = GenerationRequest("lp", PROMPT, SamplingParams(3, temperature=0.0), (), logprobs=2)
    try:
        tokens, chunks = await collect(engine, with_logprobs)
        assert [entry.token_id for chunk in chunks for entry in chunk.logprobs] == tokens
    except RequestError as e:
        assert e.param == "logprobs"
    # Closing the iterator aborts. Each of these answers would take longer than wait_until_idle waits.
    endlessly = engine.max_model_len - len(PROMPT)
    endless = engine.generate(request("c", max_tokens=endlessly))
    await anext(endless)
    assert engine.stats().requests == 1
    await endless.aclose()
    await wait_until_idle(engine)
    # Cancelling the task that reads aborts.
    task = asyncio.create_task(collect(engine, request("t", max_tokens=endlessly)))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await wait_until_idle(engine)
    # abort() ends the iterator with its reason; of an unknown id it does nothing.
    await engine.abort("unknown")
    aborted = engine.generate(request("a", max_tokens=endlessly))
    await anext(aborted)
    await engine.abort("a")
    rest = [chunk async for chunk in aborted]
    assert rest[-1].finish_reason == "abort"
    await wait_until_idle(engine)
    # Its id may be used again at once, and a new request with it is not taken for the aborted one.
    tokens, chunks = await collect(engine, request("a", max_tokens=5))
    assert (len(tokens), chunks[-1].finish_reason) == (5, "length")
    # The same id twice at a time is refused; the first goes on.
    first = engine.generate(request("twice", max_tokens=40))
    await anext(first)
    with pytest.raises(RequestError, match="already running"):
        await collect(engine, request("twice"))
    assert [chunk async for chunk in first][-1].finish_reason == "length"
    # Shutdown never leaves a request waiting, and refuses later ones.
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


def create_twin(engine: InferenceEngine) -> InferenceEngine | None:
    """A scripted engine at the start of its script, which does not depend on the prompt."""
    return ScriptedEngine([range(5, 1000)]) if isinstance(engine, ScriptedEngine) else None


@pytest.mark.parametrize(
    ("prompt", "sampling", "param"),
    [
        ((), SamplingParams(4), "messages"),
        (PROMPT, SamplingParams(0), "max_tokens"),
        (PROMPT, SamplingParams(1_000_000), "max_tokens"),
        (PROMPT, SamplingParams(4, temperature=-1.0), "temperature"),
        (PROMPT, SamplingParams(4, temperature=float("nan")), "temperature"),
        (PROMPT, SamplingParams(4, top_p=0.0), "top_p"),
        (PROMPT, SamplingParams(4, top_k=-1), "top_k"),
    ],
)
def test_a_request_that_no_engine_can_answer_is_refused(
    prompt: tuple[int, ...], sampling: SamplingParams, param: str
) -> None:
    with pytest.raises(RequestError) as refused:
        check_request(GenerationRequest("r", prompt, sampling, ()), max_model_len=1024)
    assert refused.value.param == param


@pytest.mark.parametrize("script", [[], [[5], []]])
def test_a_script_without_tokens_is_a_config_error(script: list[list[int]]) -> None:
    with pytest.raises(ConfigError, match=r"engine\.script"):
        ScriptedEngine(script)


async def test_a_crash_reaches_every_request() -> None:
    engine = ScriptedEngine([range(5, 1000)], crash_after_tokens=10)
    tasks = [asyncio.create_task(collect(engine, request(f"r{i}", max_tokens=50))) for i in range(3)]
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, EngineError)
    with pytest.raises(EngineError, match="crashed"):
        await engine.check_health()
    await asyncio.sleep(0)
    assert engine.stats().requests == 0


@pytest.fixture
async def real(tiny_oss: Path) -> AsyncIterator[InferenceEngine]:
    engine = create_engine(EngineConfig(kv_cache_tokens=1024, max_batch_tokens=48), tiny_oss)
    await engine.start()
    yield engine
    await engine.shutdown()


async def test_greedy_tokens_are_those_of_generate(real: InferenceEngine, tiny_oss: Path) -> None:
    """Prompts shorter and longer than the window of 16 and than a prefill part, all in one batch."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tiny_oss, dtype=torch.float32, attn_implementation="eager"
    )
    generator = torch.Generator().manual_seed(3)
    prompts = [tuple(torch.randint(20, 900, (n,), generator=generator).tolist()) for n in (3, 15, 16, 17, 40, 90, 130)]
    asked = [GenerationRequest(f"p{i}", p, SamplingParams(24, temperature=0.0), ()) for i, p in enumerate(prompts)]
    answers = await asyncio.gather(*(collect(real, a) for a in asked))
    for prompt, (tokens, _) in zip(prompts, answers, strict=True):
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            expected = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24, eos_token_id=-1
            )
        assert tokens == expected[0, len(prompt) :].tolist()
    # Alone, and with the first pages of the prompt taken from the cache.
    again, _ = await collect(real, GenerationRequest("again", prompts[-1], SamplingParams(24, temperature=0.0), ()))
    assert again == answers[-1][0]


async def test_no_request_can_kill_the_engine(real: InferenceEngine) -> None:
    """Each of these once ended the library's loop, and with it the answers of everybody else."""
    room = real.max_model_len - len(PROMPT)
    bad = [request("long", room + 1), GenerationRequest("id", (20, 5000), SamplingParams(4), ())]
    for asked in bad:
        with pytest.raises(RequestError):
            await collect(real, asked)
    greedy, _ = await collect(real, request("greedy", 6))
    for temperature in (1e-3, 1e-40, 1e-46):
        cold, _ = await collect(real, request("cold", 6, temperature=temperature))
        assert cold == greedy
    brim = GenerationRequest("brim", PROMPT * 50, SamplingParams(room - 49 * len(PROMPT), temperature=0.0), ())
    full, _ = await collect(real, brim)
    assert len(brim.prompt_token_ids) + len(full) == real.max_model_len
    await real.check_health()


async def test_ended_requests_leave_nothing_behind(real: InferenceEngine) -> None:
    for i in range(5):
        chunks = real.generate(request(f"left{i}", max_tokens=200, temperature=1.0))
        await anext(chunks)
        await chunks.aclose()
    await wait_until_idle(real)
    await collect(real, request("last"))
    router = real._manager.output_router  # type: ignore[attr-defined]
    assert not router.result_handlers
    assert router.output_queue.empty()
    assert not real._sampler._slots  # type: ignore[attr-defined]


async def test_each_request_samples_by_its_own_parameters(real: InferenceEngine) -> None:
    asked = [
        request("greedy", 12),
        request("k1", 12, temperature=1.5, top_k=1),
        request("p0", 12, temperature=1.5, top_p=1e-6),
    ]
    asked += [request(f"hot{i}", 12, temperature=2.0) for i in range(3)]
    answers = [tokens for tokens, _ in await asyncio.gather(*(collect(real, a) for a in asked))]
    assert answers[0] == answers[1] == answers[2]
    assert len({tuple(tokens) for tokens in answers[3:]} | {tuple(answers[0])}) == 4


async def test_more_requests_than_fit_the_cache_all_finish(real: InferenceEngine) -> None:
    alone, _ = await collect(real, request("alone", max_tokens=200))
    answers = await asyncio.gather(*(collect(real, request(f"m{i}", max_tokens=200)) for i in range(12)))
    assert all(tokens == alone for tokens, _ in answers)
    await wait_until_idle(real)


async def test_a_dead_generation_thread_is_an_error_for_all(real: InferenceEngine) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory, say")

    running = real.generate(request("victim", max_tokens=500))
    await anext(running)
    real._manager.model.forward = fail  # type: ignore[attr-defined]
    with pytest.raises(EngineError, match="out of memory, say"):
        async with asyncio.timeout(20):
            async for _ in running:
                pass
    with pytest.raises(EngineError):
        async with asyncio.timeout(20):
            while True:
                await real.check_health()
                await asyncio.sleep(0.02)
    with pytest.raises(EngineError, match="out of memory, say"):
        await collect(real, request("later"))


async def test_a_request_that_the_library_drops_is_an_error(real: InferenceEngine) -> None:
    """A request can reach the library's queue after its loop has emptied it for the last time."""
    manager = real._manager  # type: ignore[attr-defined]
    manager.add_request = lambda *_, request_id, **__: request_id
    lost = asyncio.create_task(collect(real, request("lost")))
    await asyncio.sleep(0.05)
    await asyncio.to_thread(manager.stop, hard_stop=True)
    with pytest.raises(EngineError, match="stopped"):
        async with asyncio.timeout(10):
            await lost


async def test_a_cache_that_cannot_be_made_fails_the_start(tiny_oss: Path) -> None:
    engine = create_engine(EngineConfig(kv_cache_tokens=10**15), tiny_oss)
    with pytest.raises((RuntimeError, MemoryError)):
        await engine.start()
    await engine.shutdown()
