"""Sampling in the transformers engine: each option, compared with calculations on a plain forward pass."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from serve_apps.engines.engine import GenerationRequest, InferenceEngine, SamplingParams
from serve_apps.engines.engine_factory import create_engine
from serve_apps.engines.token_sampling import TokenChooser
from tests.serve_apps.engines.test_engine import PROMPT, collect, request
from tuneyard.configs.engine import EngineConfig
from tuneyard.core.errors import RequestError


@pytest.fixture
async def engine(tiny_oss: Path) -> AsyncIterator[InferenceEngine]:
    engine = create_engine(EngineConfig(kv_cache_tokens=8192), tiny_oss)
    await engine.start()
    yield engine
    await engine.shutdown()


@pytest.fixture(scope="module")
def model(tiny_oss: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(tiny_oss, dtype=torch.float32, attn_implementation="eager")


def next_logits(model: Any, tokens: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([[*PROMPT, *tokens]])).logits[0, -1]
    return logits.clone()


async def tokens_of(engine: InferenceEngine, name: str, count: int = 12, **sampling: Any) -> list[int]:
    return (await collect(engine, request(name, count, **sampling)))[0]


async def test_a_seed_gives_the_same_tokens_whatever_runs_beside_it(engine: InferenceEngine) -> None:
    alone = await tokens_of(engine, "alone", temperature=2.0, seed=7)
    crowd = [tokens_of(engine, f"c{i}", temperature=2.0) for i in range(6)]
    again, *others = await asyncio.gather(tokens_of(engine, "again", temperature=2.0, seed=7), *crowd)
    assert again == alone
    assert await tokens_of(engine, "other", temperature=2.0, seed=8) != alone
    assert len({tuple(tokens) for tokens in others}) == 6
    assert await tokens_of(engine, "negative", temperature=2.0, seed=-(2**63)) != alone


async def test_min_p_excludes_unlikely_tokens(engine: InferenceEngine) -> None:
    greedy = await tokens_of(engine, "greedy")
    assert await tokens_of(engine, "one", temperature=2.0, min_p=1.0) == greedy
    assert await tokens_of(engine, "off", temperature=2.0, min_p=0.0, seed=1) != greedy


async def test_a_bias_forbids_and_forces(engine: InferenceEngine) -> None:
    greedy = await tokens_of(engine, "greedy", 30)
    banned = greedy[0]
    assert banned not in await tokens_of(engine, "ban", 30, logit_bias=((banned, -100.0),))
    assert set(await tokens_of(engine, "force", 5, logit_bias=((77, 100.0),))) == {77}
    with pytest.raises(RequestError, match="logit_bias has the token id 5000; the model's token ids are 0 to 1023"):
        await tokens_of(engine, "unknown", logit_bias=((5000, 1.0),))


@pytest.mark.parametrize(
    "penalty", [{"presence_penalty": 1.7}, {"frequency_penalty": 0.9}, {"repetition_penalty": 1.6}]
)
async def test_penalties_follow_the_published_formulas(
    engine: InferenceEngine, model: Any, penalty: dict[str, float]
) -> None:
    """Greedy, so that each token can be calculated."""
    tokens = await tokens_of(engine, "p", 24, **penalty)
    expected: list[int] = []
    for _ in range(24):
        logits = next_logits(model, expected)
        for token in set(expected):
            logits[token] -= penalty.get("presence_penalty", 0)
            logits[token] -= penalty.get("frequency_penalty", 0) * expected.count(token)
        if factor := penalty.get("repetition_penalty"):
            for token in {*PROMPT, *expected}:
                logits[token] = logits[token] / factor if logits[token] > 0 else logits[token] * factor
        expected.append(int(logits.argmax()))
    assert tokens == expected
    assert tokens != await tokens_of(engine, "plain", 24)


@pytest.mark.parametrize("penalty", [5e-324, 1e-39, 1e38, 1e308])
async def test_an_extreme_penalty_does_not_affect_other_requests(engine: InferenceEngine, penalty: float) -> None:
    """A probability that is not a number would end the engine for all requests."""
    greedy = await tokens_of(engine, "greedy")
    extreme, other = await asyncio.gather(
        tokens_of(engine, "extreme", temperature=1.0, repetition_penalty=penalty, logit_bias=((3, 100.0),)),
        tokens_of(engine, "other"),
    )
    assert (len(extreme), other) == (12, greedy)


def test_nan_logits_end_the_answer_with_an_error() -> None:
    chooser = TokenChooser(request("broken", 4, temperature=1.0), None)
    chooser.choose(torch.zeros(1, 8))
    assert chooser.error is None
    chooser.choose(torch.full((1, 8), float("nan")))
    assert "NaN" in str(chooser.error)


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.4, "seed": 3}, {"logit_bias": ((77, 100.0),)}])
async def test_log_probabilities_are_those_of_the_model(
    engine: InferenceEngine, model: Any, sampling: dict[str, Any]
) -> None:
    """Those before temperature, biases and penalties."""
    params = SamplingParams(6, **({"temperature": 0.0} | sampling))
    tokens, chunks = await collect(engine, GenerationRequest("l", PROMPT, params, (), logprobs=4))
    entries = [entry for chunk in chunks for entry in chunk.logprobs]
    assert [entry.token_id for entry in entries] == tokens
    for position, entry in enumerate(entries):
        expected = next_logits(model, tokens[:position]).log_softmax(-1)
        assert entry.logprob == pytest.approx(float(expected[entry.token_id]), abs=1e-4)
        assert [token for token, _ in entry.top] == expected.topk(4).indices.tolist()
        assert [value for _, value in entry.top] == pytest.approx(expected.topk(4).values.tolist(), abs=1e-4)
