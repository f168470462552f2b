"""The llama.cpp engine: the transformers engine's tokens under every option, and errors where it fails.

The contract of InferenceEngine is tested in ../test_engine.py.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import math
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch

from serve_apps.engines.engine import GenerationRequest, SamplingParams, TokenLogprob
from serve_apps.engines.engine_factory import create_engine
from tests.mxfp4_base import PublishedBase
from tests.serve_apps.engines.llama_cpp.exact_engine import EngineFactory
from tests.serve_apps.engines.test_engine import PROMPT, collect, greedy_tokens, request, wait_until_idle
from tuneyard.configs.engine import EngineConfig
from tuneyard.core.errors import CheckpointError


@pytest.fixture
async def reference(rounded_oss: Path) -> AsyncIterator[Any]:
    """The transformers engine, whose sampling is that of the API's documentation."""
    engine = create_engine(EngineConfig(kv_cache_tokens=2048), rounded_oss)
    await engine.start()
    yield engine
    await engine.shutdown()


def random_prompts(seed: int, *lengths: int) -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(seed)
    return [tuple(torch.randint(20, 900, (n,), generator=generator).tolist()) for n in lengths]


def entries(chunks: list[Any]) -> list[TokenLogprob]:
    return [entry for chunk in chunks for entry in chunk.logprobs]


async def test_greedy_tokens_are_those_of_generate(make_engine: EngineFactory, rounded_oss: Path) -> None:
    """With prompts shorter and longer than the window (16) and than a prefill batch (32), several in one batch."""
    engine = await make_engine(n_batch=32, n_ubatch=32)
    prompts = random_prompts(3, 3, 15, 16, 17, 40, 90, 130)
    requests = [GenerationRequest(f"p{i}", p, SamplingParams(24, temperature=0.0), ()) for i, p in enumerate(prompts)]
    answers = await asyncio.gather(*(collect(engine, r) for r in requests))
    assert [tokens for tokens, _ in answers] == greedy_tokens(rounded_oss, prompts, 24)


async def test_a_prompt_finds_its_beginning_in_the_cache(engine: Any) -> None:
    (prompt,) = random_prompts(4, 100)
    first, _ = await collect(engine, GenerationRequest("a", prompt, SamplingParams(20, temperature=0.0), ()))
    await collect(engine, request("other"))
    longer = GenerationRequest("b", (*prompt, *first[:10]), SamplingParams(10, temperature=0.0), ())
    second, chunks = await collect(engine, longer)
    assert second == first[10:]
    assert {chunk.cached_prompt_tokens for chunk in chunks if chunk.token_ids} == {109}
    # At once after the answer, as an agent's next turn comes: the slot is free by then.
    _, chunks = await collect(engine, GenerationRequest("c", (*prompt, *first), SamplingParams(2, 0.0), ()))
    assert {chunk.cached_prompt_tokens for chunk in chunks if chunk.token_ids} == {119}


@pytest.mark.parametrize("swa_full", [True, False])
async def test_a_slots_earlier_requests_change_no_answer(
    make_engine: EngineFactory, reference: Any, swa_full: bool
) -> None:
    """llama.cpp's own copies of a window gave wrong probabilities to prompts that share their beginning with others."""
    engine = await make_engine(swa_full=swa_full, n_parallel=1, n_ctx=512)
    fresh = random_prompts(8, *(3, 20, 100) * 4)
    prompts = [
        prompt
        for earlier, later in itertools.pairwise(fresh)
        for prompt in (earlier, (*earlier[: len(earlier) // 2], *later[:3]), later, (*earlier[:2], *later[:1]))
    ]
    sampling = SamplingParams(24, temperature=0.0, frequency_penalty=1.9)
    requests = [GenerationRequest(f"p{i}", p, sampling, ()) for i, p in enumerate(prompts)]
    answers, expected = [[(await collect(e, r))[0] for r in requests] for e in (engine, reference)]
    assert answers == expected


OPTIONS_AT_TEMPERATURE_0: dict[str, dict[str, Any]] = {
    "logit_bias": {"logit_bias": tuple((token, 0.5 * (token % 7) - 1.5) for token in range(0, 1000, 3))},
    "presence": {"presence_penalty": 0.4},
    "negative presence": {"presence_penalty": -0.8},
    "frequency": {"frequency_penalty": 0.3},
    "repetition": {"repetition_penalty": 1.3},
    "low repetition": {"repetition_penalty": 0.7},
    "all": {
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "repetition_penalty": 1.1,
        "logit_bias": ((30, 0.2), (706, -0.1)),
    },
}


@pytest.mark.parametrize("option", OPTIONS_AT_TEMPERATURE_0)
async def test_options_mean_what_they_mean_in_the_transformers_engine(engine: Any, reference: Any, option: str) -> None:
    """The prompt repeats itself, so that penalties that count its tokens give another answer."""
    plain, _ = await collect(reference, GenerationRequest("plain", PROMPT * 4, SamplingParams(40, 0.0), ()))
    params = SamplingParams(40, temperature=0.0, **OPTIONS_AT_TEMPERATURE_0[option])
    tokens, _ = await collect(reference, GenerationRequest("r", PROMPT * 4, params, ()))
    again, _ = await collect(engine, GenerationRequest("r", PROMPT * 4, params, ()))
    assert again == tokens
    assert again != plain


async def test_logprobs_are_of_the_models_own_distribution(engine: Any, reference: Any) -> None:
    """Neither temperature nor bias, penalty or truncation changes them."""
    sampling = SamplingParams(
        6, temperature=1.7, top_k=3, top_p=0.9, min_p=0.01, seed=5, repetition_penalty=1.4, logit_bias=((40, 20.0),)
    )
    tokens, chunks = await collect(engine, GenerationRequest("a", PROMPT, sampling, (), logprobs=4))
    assert tokens == [40] * 6
    for position, entry in enumerate(entries(chunks)):
        prompt = (*PROMPT, *tokens[:position])
        forced = SamplingParams(1, temperature=0.0, logit_bias=((40, 1000.0),))
        _, expected_chunks = await collect(reference, GenerationRequest("b", prompt, forced, (), logprobs=4))
        (expected,) = entries(expected_chunks)
        assert (entry.token_id, entry.logprob) == (40, pytest.approx(expected.logprob, abs=1e-4))
        assert [token for token, _ in entry.top] == [token for token, _ in expected.top]
        assert [value for _, value in entry.top] == pytest.approx([v for _, v in expected.top], abs=1e-4)
    _, chunks = await collect(engine, GenerationRequest("none", PROMPT, SamplingParams(2, 0.0), (), logprobs=0))
    assert [entry.top for entry in entries(chunks)] == [(), ()]


async def test_a_prompt_is_scored_as_by_the_transformers_engine(engine: Any, reference: Any) -> None:
    (prompt,) = random_prompts(6, 40)
    scored = GenerationRequest("s", prompt, SamplingParams(8, temperature=0.0), (), prompt_logprobs=3)
    (tokens, chunks), (expected_tokens, expected) = [await collect(e, scored) for e in (engine, reference)]
    assert tokens == expected_tokens
    (scores,), (expected_scores,) = [[c.prompt_logprobs for c in cs if c.prompt_logprobs] for cs in (chunks, expected)]
    assert [entry.token_id for entry in scores] == list(prompt[1:])
    assert {chunk.cached_prompt_tokens for chunk in chunks} == {0}
    for entry, other in zip(scores, expected_scores, strict=True):
        assert entry.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert [value for _, value in entry.top] == pytest.approx([value for _, value in other.top], abs=1e-4)


@pytest.mark.parametrize("truncation", [{}, {"top_k": 3}, {"top_p": 0.02}, {"min_p": 0.8}], ids=str)
async def test_tokens_are_drawn_by_their_probabilities(make_engine: EngineFactory, truncation: dict[str, Any]) -> None:
    """The shares of the drawn tokens are those that transformers' warpers give the model's log-probabilities."""
    from transformers.generation.logits_process import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    engine = await make_engine(n_ctx=8 * 128, n_parallel=8)
    _, chunks = await collect(engine, GenerationRequest("p", PROMPT, SamplingParams(1, 0.0), (), logprobs=1024))
    logits = torch.full((1, 1024), -1e9)
    for token, value in entries(chunks)[0].top:
        logits[0, token] = value
    logits /= 0.5
    ids = torch.empty((1, 0), dtype=torch.long)
    for name, warper in (("top_k", TopKLogitsWarper), ("top_p", TopPLogitsWarper), ("min_p", MinPLogitsWarper)):
        if name in truncation:
            logits = warper(truncation[name])(ids, logits)
    expected = logits.softmax(-1)[0]
    draws = 400
    params = [SamplingParams(1, temperature=0.5, seed=seed, **truncation) for seed in range(draws)]
    answers = await asyncio.gather(
        *(collect(engine, GenerationRequest(f"d{i}", PROMPT, p, ())) for i, p in enumerate(params))
    )
    counts = Counter(tokens[0] for tokens, _ in answers)
    assert all(expected[token] > 0 for token in counts)
    likely = expected.topk(3)
    for token, share in zip(likely.indices.tolist(), likely.values.tolist(), strict=True):
        assert abs(counts[token] / draws - share) < 4 * (share * (1 - share) / draws) ** 0.5 + 0.01


async def test_tokens_under_a_grammar_are_drawn_by_their_probabilities(make_engine: EngineFactory) -> None:
    """Nine draws in ten are of a token that the grammar refuses. The next draw must not depend on that one: if it had
    the same random number, it would nearly always be of the allowed token that comes first."""
    engine = await make_engine(n_ctx=8 * 128, n_parallel=8)
    _, chunks = await collect(engine, GenerationRequest("p", PROMPT, SamplingParams(1, 0.0), (), logprobs=1024))
    own = dict(entries(chunks)[0].top)
    shares = {5: 0.9, 10: 0.09, 900: 0.01}
    biases = tuple((token, 50 + math.log(share) - own[token]) for token, share in shares.items())
    draws = 400
    answers = await asyncio.gather(
        *(
            collect(
                engine,
                GenerationRequest(
                    f"d{i}",
                    PROMPT,
                    SamplingParams(1, seed=i, logit_bias=biases),
                    (),
                    grammar="%llguidance {}\nstart: <[10,900]>",
                ),
            )
            for i in range(draws)
        )
    )
    counts = Counter(tokens[0] for tokens, _ in answers)
    assert counts.keys() == {10, 900}
    assert abs(counts[900] / draws - 0.1) < 4 * (0.1 * 0.9 / draws) ** 0.5


async def test_a_seed_gives_the_same_tokens_again(engine: Any) -> None:
    def seeded(name: str, seed: int | None, **options: Any) -> GenerationRequest:
        return request(name, 12, temperature=1.5, seed=seed, **options)

    for options in ({}, {"frequency_penalty": 0.5}, {"logit_bias": ((50, 1.0),)}):
        first, _ = await collect(engine, seeded("a", 2**63 - 1, **options))
        await collect(engine, seeded("between", None))
        assert (await collect(engine, seeded("b", 2**63 - 1, **options)))[0] == first
        assert (await collect(engine, seeded("c", 1, **options)))[0] != first
    unseeded = [(await collect(engine, seeded(f"u{i}", None)))[0] for i in range(3)]
    assert len(set(map(tuple, unseeded))) == 3


async def test_no_request_can_kill_the_engine(engine: Any) -> None:
    greedy, _ = await collect(engine, request("greedy", 6))
    for temperature in (1e-3, 1e-40, 1e-46):
        assert (await collect(engine, request("cold", 6, temperature=temperature)))[0] == greedy
    for extreme in (
        {"repetition_penalty": 1e38},
        {"repetition_penalty": 1e-38},
        {"logit_bias": ((5, 1e38), (6, -1e38))},
        {"temperature": 1e30},
        {"temperature": 1.0, "top_p": 1e-30},
        {"temperature": 1.0, "min_p": 1.0},
        {"temperature": 1.0, "top_k": 2**40},
        {"temperature": 1.0, "top_k": 10**400},
    ):
        tokens, chunks = await collect(engine, request("extreme", 6, **extreme))
        assert (len(tokens), chunks[-1].finish_reason) == (6, "length")
    longest = engine.max_model_len - len(PROMPT)
    tokens, _ = await collect(engine, request("longest", longest))
    assert len(tokens) == longest
    (prompt,) = random_prompts(1, engine.max_model_len - 1)
    tokens, _ = await collect(engine, GenerationRequest("one", prompt, SamplingParams(1, 0.0), ()))
    assert len(tokens) == 1
    await engine.check_health()


async def test_requests_beyond_the_slots_wait_and_all_finish(engine: Any) -> None:
    alone, _ = await collect(engine, request("alone", max_tokens=100))
    left = engine.generate(request("left", max_tokens=900))
    await anext(left)
    answers = asyncio.gather(*(collect(engine, request(f"m{i}", max_tokens=100)) for i in range(12)))
    await asyncio.sleep(0)
    waiting = engine.generate(request("never", max_tokens=900))
    await anext(waiting)
    await waiting.aclose()
    await left.aclose()
    assert all(tokens == alone for tokens, _ in await answers)
    await wait_until_idle(engine)


async def test_the_event_loop_runs_while_tokens_come(engine: Any) -> None:
    """Chunks come from threads of llama.cpp, which need the interpreter lock."""
    longest_s, stopped = 0.0, False

    async def watch() -> None:
        nonlocal longest_s
        while not stopped:
            started = time.monotonic()
            await asyncio.sleep(0.001)
            longest_s = max(longest_s, time.monotonic() - started)

    watcher = asyncio.create_task(watch())
    await asyncio.gather(*(collect(engine, request(f"m{i}", max_tokens=300)) for i in range(4)))
    stopped = True
    await watcher
    assert longest_s < 0.5


def listening_sockets() -> set[str]:
    """The TCP sockets on which this process listens."""
    inodes = {
        line.split()[9]
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/self/net/{name}").read_text().splitlines()[1:]
        if line.split()[3] == "0A"  # LISTEN
    }
    own = {str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink() and link.exists()}
    return {f"socket:[{inode}]" for inode in inodes} & own


@pytest.fixture
def listening_before() -> set[str]:
    """Those of other tests' servers in this process."""
    return listening_sockets()


@pytest.mark.skipif(not Path("/proc/self/net").exists(), reason="needs Linux's /proc")
async def test_llama_cpp_listens_on_no_port(listening_before: set[str], engine: Any) -> None:
    assert not listening_sockets() - listening_before
    address = engine._server._server.listening_address
    assert address.startswith("unix://")
    assert not Path(address.removeprefix("unix://")).parent.exists()


async def test_a_request_with_all_options_is_answered(engine: Any, reference: Any) -> None:
    grammar = "%llguidance {}\nstart: /[a-z ]{40}/"
    params = SamplingParams(10, 0.0, presence_penalty=0.2, frequency_penalty=0.1, repetition_penalty=1.2)
    full = GenerationRequest("full", PROMPT, params, (), logprobs=2, prompt_logprobs=1, grammar=grammar)
    (tokens, chunks), (expected, expected_chunks) = [await collect(e, full) for e in (engine, reference)]
    assert tokens == expected
    assert [e.token_id for e in entries(chunks)] == tokens
    assert [e.logprob for e in entries(chunks)] == pytest.approx(
        [e.logprob for e in entries(expected_chunks)], abs=1e-3
    )
    drawn = dataclasses.replace(full, sampling=dataclasses.replace(params, temperature=1.0, top_p=0.9, min_p=0.01))
    tokens, _ = await collect(engine, drawn)
    assert len(tokens) == 10


@pytest.mark.parametrize("published_base", ["20b"], indirect=True)
async def test_mxfp4_experts_are_served_as_they_are(make_engine: EngineFactory, published_base: PublishedBase) -> None:
    """Up to the activations, which llama.cpp rounds to 8 bits where it multiplies them with MXFP4."""
    scores = []
    for weights in ("mxfp4", "f32"):
        engine = await make_engine(published_base.adopted, weights=weights)
        scored = GenerationRequest("s", PROMPT, SamplingParams(4, temperature=0.0), (), logprobs=3, prompt_logprobs=0)
        _, chunks = await collect(engine, scored)
        scores.append([entry.logprob for chunk in chunks for entry in (*chunk.prompt_logprobs, *chunk.logprobs)])
    assert scores[0] == pytest.approx(scores[1], abs=0.05)
    with pytest.raises(CheckpointError, match="its experts are not MXFP4"):
        await make_engine(published_base.unquantised, weights="mxfp4")
