"""Grammars are compiled within limits, outside of the event loop, and once."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serve_apps.engines.grammars.grammar_compiler import GrammarCompiler
from serve_apps.engines.grammars.grammar_proof import load_tokenizer
from serve_apps.engines.transformers_engine import TransformersEngine
from tests.serve_apps.hostile.loop_watchdog import LoopWatchdog
from tuneyard.configs.engine import EngineConfig
from tuneyard.configs.grammar_limits import GrammarLimits
from tuneyard.core.errors import EngineError, RequestError
from tuneyard.harmony.answer_grammar import answer_grammar
from tuneyard.harmony.vocabulary import ModelVocabulary

EASY = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
ENDLESS: dict[str, Any] = {"type": "integer", "multipleOf": 1_000_003}
HUGE: dict[str, Any] = {"allOf": [{"type": "integer", "multipleOf": prime} for prime in (7, 11, 13, 17, 19, 23, 29)]}


@pytest.fixture
def compiler(tiny_oss: Path) -> Iterator[GrammarCompiler]:
    limits = GrammarLimits(cpu_s=0.5, memory_mib=128, cache_entries=2)
    compiler = GrammarCompiler(tiny_oss, ModelVocabulary(tiny_oss).size, limits)
    yield compiler
    compiler.close()


def grammar_of(schema: dict[str, Any]) -> str:
    return answer_grammar(ending="answer", schema=schema)


@pytest.mark.parametrize("schema", [ENDLESS, HUGE])
async def test_a_grammar_beyond_the_limits_is_refused_and_the_next_one_compiles(
    compiler: GrammarCompiler, schema: dict[str, Any]
) -> None:
    for _ in range(2):
        with pytest.raises(RequestError, match=r"compiling it takes more than .* \(engine.grammar.") as caught:
            await compiler.compile(grammar_of(schema))
        assert (caught.value.param, caught.value.code) == ("response_format", "invalid_schema")
    assert (await compiler.compile(grammar_of(EASY))).error is None


async def test_the_tokenizer_is_loaded_once_and_before_requests(
    tiny_oss: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For GPT-OSS it takes seconds, in which no other thread runs."""
    loaded: list[Path] = []
    monkeypatch.setattr(
        "serve_apps.engines.grammars.grammar_compiler.load_tokenizer",
        lambda checkpoint, size: loaded.append(checkpoint) or load_tokenizer(checkpoint, size),
    )
    engine = TransformersEngine(EngineConfig(kv_cache_tokens=256), tiny_oss)
    await engine.start()
    try:
        assert loaded == [tiny_oss]
        await engine._grammars.compile(grammar_of(EASY))
        assert loaded == [tiny_oss]
    finally:
        await engine.shutdown()


async def test_the_first_schema_and_an_endless_one_do_not_hold_the_loop(compiler: GrammarCompiler) -> None:
    for schema in (EASY, ENDLESS):
        async with LoopWatchdog() as watchdog:
            with contextlib.suppress(RequestError):
                await compiler.compile(grammar_of(schema))
        assert watchdog.own_pause_s < 0.25


async def test_a_grammar_is_compiled_once_and_answers_do_not_share_its_state(compiler: GrammarCompiler) -> None:
    grammar = grammar_of(EASY)
    first, second = await asyncio.gather(compiler.compile(grammar), compiler.compile(grammar))
    first.accept(0)
    third = await compiler.compile(grammar)
    assert first.error is not None
    assert (second.error, third.error) == (None, None)
    # With the child gone, only the cache can answer.
    compiler.close()
    assert (await compiler.compile(grammar)).error is None
    with pytest.raises(EngineError, match="shutting down"):
        await compiler.compile(grammar_of({"const": 1}))


async def test_a_schema_that_cannot_be_enforced_is_refused(compiler: GrammarCompiler) -> None:
    for _ in range(2):
        with pytest.raises(RequestError, match=r"cannot be enforced: .*Invalid type: integre"):
            await compiler.compile(grammar_of({"type": "integre"}))


async def test_a_request_that_ends_early_does_not_end_the_proof_of_others(compiler: GrammarCompiler) -> None:
    grammar = grammar_of(EASY)
    leaving, staying = (asyncio.create_task(compiler.compile(grammar)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).error is None


async def test_a_worker_that_does_not_start_refuses_no_schema(tiny_oss: Path, tmp_path: Path) -> None:
    compiler = GrammarCompiler(tmp_path, ModelVocabulary(tiny_oss).size, GrammarLimits())
    with pytest.raises(EngineError, match="while it started"):
        await compiler.compile(grammar_of(EASY))
    shutil.copy(tiny_oss / "tokenizer.json", tmp_path)
    assert (await compiler.compile(grammar_of(EASY))).error is None
    compiler.close()
