"""Each sampling option takes effect in the transformers engine, against arithmetic on a plain forward pass."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
import transformers

from serve_apps.engines.engine import GenerationRequest, InferenceEngine, SamplingParams
from serve_apps.engines.engine_factory import create_engine
from serve_apps.engines.request_sampler import Slot
from tests.serve_apps.engines.test_engine import PROMPT, collect, request, wait_until_idle
from tuneyard.chats.messages import ChatTool
from tuneyard.configs.serve import EngineConfig
from tuneyard.core.errors import EngineError, RequestError
from tuneyard.harmony.answer_grammar import answer_grammar
from tuneyard.harmony.codec import CodecSettings, HarmonyCodec


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


async def test_min_p_keeps_what_is_likely_enough(engine: InferenceEngine) -> None:
    greedy = await tokens_of(engine, "greedy")
    assert await tokens_of(engine, "one", temperature=2.0, min_p=1.0) == greedy
    assert await tokens_of(engine, "off", temperature=2.0, min_p=0.0, seed=1) != greedy


async def test_a_bias_forbids_and_forces(engine: InferenceEngine) -> None:
    greedy = await tokens_of(engine, "greedy", 30)
    banned = greedy[0]
    assert banned not in await tokens_of(engine, "ban", 30, logit_bias=((banned, -100.0),))
    assert set(await tokens_of(engine, "force", 5, logit_bias=((77, 100.0),))) == {77}
    with pytest.raises(RequestError, match="logit_bias names the token 5000; the model knows 0 to 1023"):
        await tokens_of(engine, "unknown", logit_bias=((5000, 1.0),))


@pytest.mark.parametrize(
    "penalty", [{"presence_penalty": 1.7}, {"frequency_penalty": 0.9}, {"repetition_penalty": 1.6}]
)
async def test_penalties_are_the_published_arithmetic(
    engine: InferenceEngine, model: Any, penalty: dict[str, float]
) -> None:
    """Greedy, so that each token can be foretold."""
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
async def test_no_penalty_is_too_extreme_for_those_beside_it(engine: InferenceEngine, penalty: float) -> None:
    """One probability that is not a number would kill the engine for all."""
    greedy = await tokens_of(engine, "greedy")
    extreme, beside = await asyncio.gather(
        tokens_of(engine, "extreme", temperature=1.0, repetition_penalty=penalty, logit_bias=((3, 100.0),)),
        tokens_of(engine, "beside"),
    )
    assert (len(extreme), beside) == (12, greedy)


def test_logits_that_are_not_numbers_end_their_answer_with_the_reason() -> None:
    slot = Slot(request("broken", 4, temperature=1.0), None)
    slot.choose(torch.zeros(1, 8))
    assert slot.problem is None
    slot.choose(torch.full((1, 8), float("nan")))
    assert "NaN" in str(slot.problem)


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.4, "seed": 3}, {"logit_bias": ((77, 100.0),)}])
async def test_log_probabilities_are_the_models_own(
    engine: InferenceEngine, model: Any, sampling: dict[str, Any]
) -> None:
    """Of its distribution before temperature, biases and penalties."""
    params = SamplingParams(6, **({"temperature": 0.0} | sampling))
    tokens, chunks = await collect(engine, GenerationRequest("l", PROMPT, params, (), logprobs=4))
    entries = [entry for chunk in chunks for entry in chunk.logprobs]
    assert [entry.token_id for entry in entries] == tokens
    for place, entry in enumerate(entries):
        spread = next_logits(model, tokens[:place]).log_softmax(-1)
        assert entry.logprob == pytest.approx(float(spread[entry.token_id]), abs=1e-4)
        assert [token for token, _ in entry.top] == spread.topk(4).indices.tolist()
        assert [value for _, value in entry.top] == pytest.approx(spread.topk(4).values.tolist(), abs=1e-4)


def to_the_point(codec: HarmonyCodec, *channels: str) -> tuple[tuple[int, float], ...]:
    """Biases that lead random weights out of messages, and away from opening some."""
    ends = [(token, 8.0) for token in codec.token_ids("<|end|>", "}", '"', "]")]
    openings = {name[:length] for name in channels for length in range(1, len(name) + 1)}
    return (*ends, *((token, -50.0) for token in codec.token_ids(*openings)))


def random_schema(rng: random.Random, depth: int = 2) -> dict[str, Any]:
    """A schema of one of the kinds that people use, with bounds so that an answer ends."""
    kinds = ["integer", "boolean", "enum", "string"] + (["object", "array"] if depth else [])
    match rng.choice(kinds):
        case "integer":
            low = rng.randint(-50, 50)
            return {"type": "integer", "minimum": low, "maximum": low + rng.randint(0, 500)}
        case "boolean":
            return {"type": "boolean"}
        case "enum":
            return {"enum": rng.sample(["red", "green", "blue", 1, 2.5, None, True], k=3)}
        case "string":
            return {"type": "string", "maxLength": rng.randint(1, 8)}
        case "array":
            return {"type": "array", "items": random_schema(rng, depth - 1), "minItems": 1, "maxItems": 2}
        case _:
            names = [f"key{i}" for i in range(rng.randint(1, 3))]
            return {
                "type": "object",
                "properties": {name: random_schema(rng, depth - 1) for name in names},
                "required": names,
                "additionalProperties": False,
            }


async def test_fifty_random_schemas_are_kept_by_a_model_that_knows_nothing(
    engine: InferenceEngine, tiny_oss: Path
) -> None:
    """Random weights, sampled: without a grammar they would write noise. Biased to come to the point."""
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    rng = random.Random(11)
    schemas = [
        {"type": "object", "properties": {"it": random_schema(rng)}, "required": ["it"], "additionalProperties": False}
        for _ in range(50)
    ]
    hurry = to_the_point(codec, "analysis", "commentary")

    async def answer(number: int, schema: dict[str, Any]) -> str:
        grammar = answer_grammar(ending="answer", schema=schema)
        params = SamplingParams(700, temperature=1.0, seed=number, logit_bias=hurry)
        asked = GenerationRequest(f"s{number}", PROMPT, params, codec.stop_token_ids, grammar=grammar)
        tokens, chunks = await collect(engine, asked)
        assert chunks[-1].finish_reason == "stop", "the grammar ends with a stop token"
        parser = codec.stream_parser()
        deltas = [*parser.feed(tokens), *parser.finish()]
        assert not parser.malformed
        return "".join(delta.text for delta in deltas if delta.channel == "final")

    answers = []
    for first in range(0, 50, 10):
        part = schemas[first : first + 10]
        answers += await asyncio.gather(*(answer(first + i, schema) for i, schema in enumerate(part)))
    for text, schema in zip(answers, schemas, strict=True):
        jsonschema.validate(json.loads(text), schema)


async def test_a_call_is_held_to_its_tools(engine: InferenceEngine, tiny_oss: Path) -> None:
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    schema = {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"]}
    tools = [
        ChatTool.model_validate({"function": {"name": name, "parameters": schema | {"additionalProperties": False}}})
        for name in ("weather", "time-of_day")
    ]
    grammar = answer_grammar(tools, ending="call")
    hurry = to_the_point(codec, "analysis")
    for seed in range(4):
        params = SamplingParams(400, temperature=1.0, seed=seed, logit_bias=hurry)
        asked = GenerationRequest(f"t{seed}", PROMPT, params, codec.stop_token_ids, grammar=grammar)
        tokens, _ = await collect(engine, asked)
        parser = codec.stream_parser()
        deltas = [*parser.feed(tokens), *parser.finish()]
        called = [delta for delta in deltas if delta.recipient]
        assert {delta.recipient for delta in called} <= {"functions.weather", "functions.time-of_day"}
        assert json.loads("".join(delta.text for delta in called))["city"] in ("Rome", "Oslo")
        assert not parser.malformed


async def test_a_schema_that_cannot_be_enforced_is_refused(engine: InferenceEngine) -> None:
    grammar = answer_grammar(ending="answer", schema={"type": "integre"})
    with pytest.raises(RequestError, match=r"cannot be enforced: .*Invalid type: integre") as refused:
        await collect(engine, GenerationRequest("bad", PROMPT, SamplingParams(4), (), grammar=grammar))
    assert refused.value.param == "response_format"


async def test_a_schema_that_breaks_on_the_way_is_an_error_and_no_noise(
    engine: InferenceEngine, tiny_oss: Path
) -> None:
    """Some show only when they are reached that they cannot be enforced; the answer must not run on."""
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    names = [f"key_number_{i}" for i in range(900)]
    schema = {"type": "object", "properties": {n: {"type": "integer"} for n in names}, "additionalProperties": False}
    asked = GenerationRequest(
        "broken",
        PROMPT,
        SamplingParams(400, temperature=1.0, seed=1, logit_bias=to_the_point(codec, "analysis", "commentary")),
        codec.stop_token_ids,
        grammar=answer_grammar(ending="answer", schema=schema),
    )
    with pytest.raises((EngineError, RequestError), match=r"(cannot|could not) be enforced"):
        await collect(engine, asked)
    await wait_until_idle(engine)
    await engine.check_health()


@pytest.mark.usefixtures("fake_tensorrt_llm")
async def test_an_engine_refuses_by_name_what_it_would_ignore(tiny_oss: Path) -> None:
    scripted = create_engine(EngineConfig(engine="scripted", script=((5,),)), tiny_oss)
    for name, value in (("seed", 1), ("min_p", 0.1), ("presence_penalty", 1.0), ("repetition_penalty", 1.1)):
        with pytest.raises(RequestError, match=f"'{name}' is not supported by this engine") as refused:
            await collect(scripted, request("r", 4, **{name: value}))
        assert (refused.value.param, refused.value.code) == (name, "unsupported")
