"""Grammars in the engines: answers and tool calls match their schemas."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from serve_apps.engines.engine import GenerationRequest, InferenceEngine, SamplingParams
from serve_apps.engines.engine_factory import create_engine
from tests.serve_apps.engines.test_engine import PROMPT, collect, wait_until_idle
from tuneyard.chats.messages import ChatTool
from tuneyard.configs.engine import EngineConfig
from tuneyard.core.errors import EngineError, RequestError
from tuneyard.harmony.answer_grammar import answer_grammar
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings

ENGINES: dict[str, dict[str, Any]] = {
    "transformers": {"kv_cache_tokens": 8192},
    "llama_cpp": {"engine": "llama_cpp", "llama_cpp": {"weights": "f32", "n_ctx": 8 * 8192, "n_parallel": 8}},
}


@pytest.fixture(params=ENGINES)
async def engine(request: pytest.FixtureRequest, tiny_oss: Path) -> AsyncIterator[InferenceEngine]:
    engine = create_engine(EngineConfig.model_validate(ENGINES[request.param]), tiny_oss)
    await engine.start()
    yield engine
    await engine.shutdown()


def short_answer_biases(codec: HarmonyCodec, *channels: str) -> tuple[tuple[int, float], ...]:
    """Logit biases that make a model with random weights end its messages and not open the given channels."""
    ends = [(token, 8.0) for token in codec.token_ids("<|end|>", "}", '"', "]")]
    openings = {name[:length] for name in channels for length in range(1, len(name) + 1)}
    return (*ends, *((token, -50.0) for token in codec.token_ids(*openings)))


def random_schema(rng: random.Random, depth: int = 2) -> dict[str, Any]:
    """A random JSON schema of a common kind, with bounds, so that answers end."""
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


async def test_fifty_random_schemas_are_enforced_on_random_weights(engine: InferenceEngine, tiny_oss: Path) -> None:
    """Without a grammar, samples from random weights are noise. The biases keep the answers short."""
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    rng = random.Random(11)
    schemas = [
        {"type": "object", "properties": {"it": random_schema(rng)}, "required": ["it"], "additionalProperties": False}
        for _ in range(50)
    ]
    biases = short_answer_biases(codec, "analysis", "commentary")

    async def answer(number: int, schema: dict[str, Any]) -> str:
        grammar = answer_grammar(ending="answer", schema=schema)
        params = SamplingParams(700, temperature=1.0, seed=number, logit_bias=biases)
        generation = GenerationRequest(f"s{number}", PROMPT, params, codec.stop_token_ids, grammar=grammar)
        tokens, chunks = await collect(engine, generation)
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


async def test_a_tool_call_matches_its_schema(engine: InferenceEngine, tiny_oss: Path) -> None:
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    schema = {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"]}
    tools = [
        ChatTool.model_validate({"function": {"name": name, "parameters": schema | {"additionalProperties": False}}})
        for name in ("weather", "time-of_day")
    ]
    grammar = answer_grammar(tools, ending="call")
    biases = short_answer_biases(codec, "analysis")
    for seed in range(4):
        params = SamplingParams(400, temperature=1.0, seed=seed, logit_bias=biases)
        generation = GenerationRequest(f"t{seed}", PROMPT, params, codec.stop_token_ids, grammar=grammar)
        tokens, _ = await collect(engine, generation)
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


async def test_a_schema_that_fails_on_the_way_is_an_error(engine: InferenceEngine, tiny_oss: Path) -> None:
    """Some schemas turn out to be unenforceable in the middle of an answer, which must then end."""
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    names = [f"key_number_{i}" for i in range(900)]
    schema = {"type": "object", "properties": {n: {"type": "integer"} for n in names}, "additionalProperties": False}
    generation = GenerationRequest(
        "broken",
        PROMPT,
        SamplingParams(400, temperature=1.0, seed=1, logit_bias=short_answer_biases(codec, "analysis", "commentary")),
        codec.stop_token_ids,
        grammar=answer_grammar(ending="answer", schema=schema),
    )
    with pytest.raises((EngineError, RequestError), match=r"(cannot|could not) be enforced"):
        await collect(engine, generation)
    await wait_until_idle(engine)
    await engine.check_health()
