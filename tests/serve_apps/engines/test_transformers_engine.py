"""The transformers engine: its tokens, and its behaviour under load and failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import torch

from serve_apps.engines.engine import GenerationRequest, InferenceEngine, SamplingParams
from serve_apps.engines.engine_factory import create_engine
from tests.mxfp4_base import PublishedBase
from tests.serve_apps.engines.test_engine import PROMPT, collect, greedy_tokens, request, wait_until_idle
from tuneyard.configs.engine import EngineConfig
from tuneyard.core.errors import EngineError, RequestError


@pytest.fixture
async def real(tiny_oss: Path) -> AsyncIterator[InferenceEngine]:
    engine = create_engine(EngineConfig(kv_cache_tokens=1024, max_batch_tokens=48), tiny_oss)
    await engine.start()
    yield engine
    await engine.shutdown()


async def test_greedy_tokens_are_those_of_generate(real: InferenceEngine, tiny_oss: Path) -> None:
    """With prompts shorter and longer than the window (16) and than a prefill chunk (48), all in one batch."""
    generator = torch.Generator().manual_seed(3)
    prompts = [tuple(torch.randint(20, 900, (n,), generator=generator).tolist()) for n in (3, 15, 16, 17, 40, 90, 130)]
    requests = [GenerationRequest(f"p{i}", p, SamplingParams(24, temperature=0.0), ()) for i, p in enumerate(prompts)]
    answers = await asyncio.gather(*(collect(real, r) for r in requests))
    assert [tokens for tokens, _ in answers] == greedy_tokens(tiny_oss, prompts, 24)
    # The same alone, with the first pages of the prompt from the cache.
    again, _ = await collect(real, GenerationRequest("again", prompts[-1], SamplingParams(24, temperature=0.0), ()))
    assert again == answers[-1][0]


async def test_a_published_checkpoint_answers_as_generate_does(published_base: PublishedBase) -> None:
    """Of both sizes, with experts in MXFP4 and several shards."""
    engine = create_engine(EngineConfig(kv_cache_tokens=1024), published_base.adopted)
    await engine.start()
    try:
        prompts = [PROMPT, tuple(range(100, 140))]
        requests = [
            GenerationRequest(f"p{i}", p, SamplingParams(12, temperature=0.0), ()) for i, p in enumerate(prompts)
        ]
        answers = await asyncio.gather(*(collect(engine, r) for r in requests))
    finally:
        await engine.shutdown()
    assert [tokens for tokens, _ in answers] == greedy_tokens(published_base.adopted, prompts, 12)


async def test_no_request_can_kill_the_engine(real: InferenceEngine) -> None:
    """Each of these once ended transformers' generation loop, and all other answers with it."""
    available = real.max_model_len - len(PROMPT)
    bad = [request("long", available + 1), GenerationRequest("id", (20, 5000), SamplingParams(4), ())]
    for invalid in bad:
        with pytest.raises(RequestError):
            await collect(real, invalid)
    greedy, _ = await collect(real, request("greedy", 6))
    for temperature in (1e-3, 1e-40, 1e-46):
        cold, _ = await collect(real, request("cold", 6, temperature=temperature))
        assert cold == greedy
    longest = GenerationRequest(
        "longest", PROMPT * 50, SamplingParams(available - 49 * len(PROMPT), temperature=0.0), ()
    )
    tokens, _ = await collect(real, longest)
    assert len(longest.prompt_token_ids) + len(tokens) == real.max_model_len
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
    assert not real._sampler._choosers  # type: ignore[attr-defined]


async def test_each_request_samples_by_its_own_parameters(real: InferenceEngine) -> None:
    requests = [
        request("greedy", 12),
        request("k1", 12, temperature=1.5, top_k=1),
        request("p0", 12, temperature=1.5, top_p=1e-6),
    ]
    requests += [request(f"hot{i}", 12, temperature=2.0) for i in range(3)]
    answers = [tokens for tokens, _ in await asyncio.gather(*(collect(real, r) for r in requests))]
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


async def test_a_request_that_transformers_drops_is_an_error(real: InferenceEngine) -> None:
    """A request can reach transformers' queue after its loop has emptied the queue for the last time."""
    manager = real._manager  # type: ignore[attr-defined]
    manager.add_request = lambda *_, request_id, **__: request_id
    lost = asyncio.create_task(collect(real, request("lost")))
    await asyncio.sleep(0.05)
    await asyncio.to_thread(manager.stop, hard_stop=True)
    with pytest.raises(EngineError, match="stopped"):
        async with asyncio.timeout(10):
            await lost


async def test_a_cache_that_cannot_be_allocated_fails_the_start(tiny_oss: Path) -> None:
    engine = create_engine(EngineConfig(kv_cache_tokens=10**15), tiny_oss)
    with pytest.raises((RuntimeError, MemoryError)):
        await engine.start()
    await engine.shutdown()


async def test_a_scored_prompt_is_answered_as_without_its_scores(real: InferenceEngine) -> None:
    plain, _ = await collect(real, request("plain"))
    scored = GenerationRequest("scored", PROMPT, SamplingParams(8, temperature=0.0), (), prompt_logprobs=2)
    tokens, chunks = await collect(real, scored)
    assert tokens == plain
    (scores,) = [chunk.prompt_logprobs for chunk in chunks if chunk.prompt_logprobs]
    assert [entry.token_id for entry in scores] == list(PROMPT[1:])
    assert all(len(entry.top) == 2 and entry.top[0][1] >= entry.logprob for entry in scores)
    long = GenerationRequest("left", PROMPT * 30, SamplingParams(8, temperature=0.0), (), prompt_logprobs=0)
    unread = real.generate(long)
    assert (await anext(unread)).token_ids == ()
    await unread.aclose()
    await wait_until_idle(real)
