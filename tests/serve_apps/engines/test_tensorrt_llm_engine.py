"""The TensorRT-LLM engine on a fake of tensorrt_llm, and both checked against tensorrt_llm_contract.json.

The contract of InferenceEngine is tested in test_engine.py, the versions in test_tensorrt_llm_versions.py.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from serve_apps.engine_wrappers.token_charge import ChargedEngine, charge_tokens_to
from serve_apps.engines.engine import GenerationRequest, SamplingParams
from serve_apps.engines.engine_factory import create_engine
from tests.serve_apps.engines.tensorrt_llm_contract import contract, differences, versions
from tests.serve_apps.engines.test_engine import PROMPT, collect, greedy_tokens, request, wait_until_idle
from tuneyard.api.usage_counts import UsageCounts
from tuneyard.configs.engine import EngineConfig
from tuneyard.configs.engines.tensorrt_llm import TensorRTLLMConfig
from tuneyard.configs.serve import ServeConfig
from tuneyard.core.config_loading import load_config
from tuneyard.core.errors import EngineError, MissingDependencyError, RequestError
from tuneyard.planning.tensorrt_llm_arguments import llm_arguments

pytestmark = pytest.mark.usefixtures("fake_tensorrt_llm")

EngineFactory = Callable[..., Any]
VERSION = "1.2.1"


@pytest.fixture
async def make_engine(tiny_oss: Path) -> AsyncIterator[EngineFactory]:
    """Creates started engines, which are shut down at the end of the test."""
    started = []

    async def make(checkpoint: Path = tiny_oss, **fields: Any) -> Any:
        section = TensorRTLLMConfig.model_validate({"gpu": "H100", "max_seq_len": 2048} | fields)
        engine = create_engine(EngineConfig(engine="tensorrt_llm", tensorrt_llm=section), checkpoint)
        started.append(engine)
        await engine.start()
        return engine

    yield make
    for engine in started:
        await engine.shutdown()


def test_a_missing_attribute_or_field_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shows that the check of the real package can fail."""
    import tensorrt_llm
    from tensorrt_llm import llmapi

    monkeypatch.delattr(tensorrt_llm.LLM, "get_stats")
    monkeypatch.setattr(llmapi, "MoeConfig", llmapi.CudaGraphConfig)
    assert differences(VERSION) == [
        "tensorrt_llm.LLM.get_stats: type object 'LLM' has no attribute 'get_stats'",
        "tensorrt_llm.llmapi.MoeConfig: no field backend",
    ]


@pytest.mark.parametrize("version", versions())
def test_the_engine_uses_only_what_the_contract_lists(version: str) -> None:
    """The names in its code, its sampling arguments, and the LLM arguments of every preset."""
    from serve_apps.engines import tensorrt_llm_engine
    from serve_apps.engines.tensorrt_llm_requests import sampling_arguments

    listed = contract(version)
    paths = {p for kind in ("functions", "fields", "attributes", "errors") for p in listed[kind]}
    known_names = {part for path in paths for part in path.split(".")}
    used = {
        node.attr
        for node in ast.walk(ast.parse(inspect.getsource(tensorrt_llm_engine)))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and "llm" in node.value.id.lower()
    }
    assert used - {"__version__"} <= known_names
    fields = listed["fields"]
    assert sampling_arguments(request()).keys() <= set(fields["tensorrt_llm.SamplingParams"])
    # TensorRT-LLM's executor takes 32 bits.
    assert sampling_arguments(request(top_k=10**400))["top_k"] == 2**31 - 1
    sections = tensorrt_llm_engine._SECTION_CLASSES
    for path in Path("serve_apps/configs").glob("gpt_oss_*_*_*.yaml"):
        config = load_config(ServeConfig, path).models[0].engine.tensorrt_llm
        assert config is not None
        arguments = llm_arguments(config, is_mxfp4=True)
        assert arguments.keys() <= set(fields["tensorrt_llm.llmapi.TorchLlmArgs"])
        for name, value in arguments.items():
            if isinstance(value, dict):
                assert value.keys() <= set(fields[f"tensorrt_llm.llmapi.{sections[name]}"])


async def test_the_config_becomes_llm_arguments(make_engine: EngineFactory, tiny_oss: Path) -> None:
    engine = await make_engine(max_batch_size=3, max_num_tokens=4096, free_gpu_memory_fraction=0.5)
    args = engine._llm.args
    assert (args.model, args.max_seq_len, args.max_input_len) == (str(tiny_oss), 2048, 2047)
    assert (args.max_batch_size, args.max_num_tokens, args.skip_tokenizer_init) == (3, 4096, True)
    assert args.kv_cache_config.free_gpu_memory_fraction == 0.5
    assert (args.cuda_graph_config.max_batch_size, args.cuda_graph_config.enable_padding) == (3, True)


@pytest.mark.parametrize("stream_interval", [1, 5])
async def test_greedy_tokens_are_those_of_generate(
    make_engine: EngineFactory, tiny_oss: Path, stream_interval: int
) -> None:
    """In one batch, with prompts shorter and longer than the window, for chunks of one and of several tokens."""
    engine = await make_engine(stream_interval=stream_interval)
    generator = torch.Generator().manual_seed(5)
    prompts = [tuple(torch.randint(20, 900, (n,), generator=generator).tolist()) for n in (3, 16, 90)]
    requests = [GenerationRequest(f"p{i}", p, SamplingParams(24, temperature=0.0), ()) for i, p in enumerate(prompts)]
    answers = await asyncio.gather(*(collect(engine, r) for r in requests))
    assert [tokens for tokens, _ in answers] == greedy_tokens(tiny_oss, prompts, 24)
    assert {max(len(chunk.token_ids) for chunk in chunks) for _, chunks in answers} == {stream_interval}


async def test_prompt_tokens_from_the_cache_are_charged_as_such_once(make_engine: EngineFactory) -> None:
    engine = await make_engine()
    engine._llm.worker.cached_tokens = 4
    prompt = tuple(range(20, 30))
    used = []
    for shares_prompt in (False, True):
        request = GenerationRequest("r", prompt, SamplingParams(3, temperature=0.0), (), shares_prompt=shares_prompt)
        with charge_tokens_to(used.append):
            _, chunks = await collect(ChargedEngine(engine), request)
    assert {chunk.cached_prompt_tokens for chunk in chunks if chunk.token_ids} == {4}
    assert sum(used, UsageCounts()) == UsageCounts(0, 10, 4, 6, 0)


async def test_any_of_several_stop_tokens_ends_the_answer_and_is_included(make_engine: EngineFactory) -> None:
    """TensorRT-LLM gets the first as end_id and the others as stop words, which it removes by default."""
    engine = await make_engine()
    tokens, _ = await collect(engine, request(max_tokens=8))
    for stops in ((tokens[3], 1), (1, tokens[3]), (1, 2, tokens[3])):
        stopped, chunks = await collect(engine, request(max_tokens=8, stop=stops))
        assert stopped == tokens[: tokens.index(tokens[3]) + 1]
        assert chunks[-1].finish_reason == "stop"
    # TensorRT-LLM checks the length first, so at the limit it reports "length".
    last, chunks = await collect(engine, request(max_tokens=4, stop=(1, tokens[3])))
    assert (last[-1], chunks[-1].finish_reason) == (tokens[3], "stop")


async def test_log_probabilities_are_those_of_the_model(make_engine: EngineFactory, tiny_oss: Path) -> None:
    engine = await make_engine()
    generation = GenerationRequest("l", PROMPT, SamplingParams(5, temperature=1.3), (), logprobs=3)
    tokens, chunks = await collect(engine, generation)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tiny_oss, dtype=torch.float32, attn_implementation="eager"
    )
    with torch.inference_mode():
        expected = model(torch.tensor([[*PROMPT, *tokens]])).logits[0].log_softmax(-1)[len(PROMPT) - 1 : -1]
    entries = [logprob for chunk in chunks for logprob in chunk.logprobs]
    assert [entry.token_id for entry in entries] == tokens
    for entry, log_probabilities in zip(entries, expected, strict=True):
        assert entry.logprob == pytest.approx(float(log_probabilities[entry.token_id]), abs=1e-4)
        assert [token for token, _ in entry.top] == log_probabilities.topk(3).indices.tolist()
    (_, plain) = await collect(engine, request("none", max_tokens=2))
    assert not any(chunk.logprobs for chunk in plain)
    _, chosen = await collect(
        engine, GenerationRequest("0", PROMPT, SamplingParams(2, temperature=0.0), (), logprobs=0)
    )
    assert all(entry.top == () for chunk in chosen for entry in chunk.logprobs)


async def test_sampling_is_passed_on(make_engine: EngineFactory) -> None:
    """top_k=1 and a tiny top_p are greedy; a temperature alone is not, as it would be if a field were missing."""
    engine = await make_engine()
    greedy, _ = await collect(engine, request("g", 12))
    for sampling in ({"temperature": 1.5, "top_k": 1}, {"temperature": 1.5, "top_p": 1e-6}):
        assert (await collect(engine, request("s", 12, **sampling)))[0] == greedy
    hot = [(await collect(engine, request(f"h{i}", 12, temperature=2.0)))[0] for i in range(3)]
    assert len({tuple(tokens) for tokens in [greedy, *hot]}) == 4
    assert len((await collect(engine, request("long", 50)))[0]) == 50  # its own default ends after 32


async def test_a_prompt_over_max_input_len_is_refused_with_both_numbers(make_engine: EngineFactory) -> None:
    engine = await make_engine(max_input_len=30)
    long = GenerationRequest("l", tuple(range(20, 51)), SamplingParams(4), ())
    with pytest.raises(
        RequestError, match=r"31 tokens; this deployment accepts prompts of up to 30 tokens \(max_input_len\)"
    ):
        await collect(engine, long)
    with pytest.raises(RequestError, match="token ids from 20 to 5000; the model's token ids are 0 to 1023"):
        await collect(engine, GenerationRequest("i", (20, 5000), SamplingParams(4), ()))
    await engine.check_health()


async def test_more_requests_than_fit_wait_and_finish(make_engine: EngineFactory) -> None:
    engine = await make_engine(max_batch_size=2)
    alone, _ = await collect(engine, request("alone", max_tokens=60))
    running = [asyncio.create_task(collect(engine, request(f"m{i}", max_tokens=60))) for i in range(8)]
    seen: list[float] = []
    while not all(task.done() for task in running):
        seen.append(engine.stats().kv_cache_usage)
        await asyncio.sleep(0.02)
    assert all(task.result()[0] == alone for task in running)
    await wait_until_idle(engine)


async def test_statistics_become_kv_cache_usage(make_engine: EngineFactory) -> None:
    engine = await make_engine()
    running = engine.generate(request("long", max_tokens=2000))
    await anext(running)
    async with asyncio.timeout(20):
        while engine.stats().kv_cache_usage == 0:
            await asyncio.sleep(0.05)
    assert 0 < engine.stats().kv_cache_usage < 0.2
    await running.aclose()
    await wait_until_idle(engine)
    assert engine.stats().kv_cache_usage == 0


async def test_a_dead_worker_ends_every_request(make_engine: EngineFactory) -> None:
    """TensorRT-LLM reports a dead worker only to the next new request; waiting requests would wait forever."""
    engine = await make_engine(stall_timeout_s=1.5)
    running = [asyncio.create_task(collect(engine, request(f"r{i}", max_tokens=2000))) for i in range(3)]
    async with asyncio.timeout(20):
        while engine.stats().requests < 3:
            await asyncio.sleep(0.02)
        engine._llm.worker.crash()
        for result in await asyncio.gather(*running, return_exceptions=True):
            assert isinstance(result, EngineError)
    with pytest.raises(EngineError):
        await engine.check_health()
    with pytest.raises(EngineError):
        await collect(engine, request("later"))


async def test_the_next_request_reports_why_the_worker_died(make_engine: EngineFactory) -> None:
    engine = await make_engine()
    engine._llm.worker.crash()
    with pytest.raises(EngineError, match="illegal memory access"):
        await collect(engine, request())
    with pytest.raises(EngineError, match="illegal memory access"):
        await engine.check_health()


async def test_an_engine_that_hangs_is_detected_while_it_holds_requests(make_engine: EngineFactory) -> None:
    engine = await make_engine(stall_timeout_s=1.5)
    running = engine.generate(request(max_tokens=2000))
    await anext(running)
    engine._llm.worker.hang()
    with pytest.raises(EngineError, match=r"holds 1 request\(s\) and generated no token for .* \(stall_timeout_s\)"):
        async with asyncio.timeout(20):
            async for _ in running:
                pass
    with pytest.raises(EngineError, match="stall_timeout_s"):
        await engine.check_health()


async def test_the_health_check_detects_an_idle_engine_that_hangs(
    make_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_apps.engines.tensorrt_llm_engine.PROBE_AFTER_S", 0.2)
    monkeypatch.setattr("serve_apps.engines.tensorrt_llm_engine.PROBE_TIMEOUT_S", 0.5)
    engine = await make_engine()
    await asyncio.sleep(0.3)
    await engine.check_health()
    assert engine.stats().requests == 0
    engine._llm.worker.hang()
    await engine.check_health()  # no probe yet: the last token is newer than PROBE_AFTER_S
    await asyncio.sleep(0.3)
    with pytest.raises(EngineError, match="while idle, it did not generate a token"):
        await engine.check_health()


async def test_one_failed_request_does_not_end_the_engine(make_engine: EngineFactory) -> None:
    from tensorrt_llm.executor.result import Response

    engine = await make_engine()
    victim = engine.generate(request("victim", max_tokens=2000))
    await anext(victim)
    (held,) = engine._held.values()
    held.output.put(Response([], error="grammar compilation failed"))
    with pytest.raises(EngineError, match="grammar compilation failed"):
        async for _ in victim:
            pass
    await engine.check_health()
    assert len((await collect(engine, request("next")))[0]) == 8


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("timeout", "TensorRT-LLM ended the request with finish_reason 'timeout'"),
        ("cancelled", "TensorRT-LLM ended the request with finish_reason 'cancelled'"),
        ("length", r"cut the answer after \d+ of 2000 tokens"),
    ],
)
async def test_an_answer_that_was_cut_is_an_error(make_engine: EngineFactory, reason: str, message: str) -> None:
    """TensorRT-LLM ended it without a request to do so, so it must not look like a complete answer."""
    from tensorrt_llm.executor.result import Response

    engine = await make_engine()
    running = engine.generate(request("cut", max_tokens=2000))
    await anext(running)
    (held,) = engine._held.values()
    held.output.put(Response([], finish_reason=reason))
    with pytest.raises(EngineError, match=message):
        async for _ in running:
            pass


async def test_a_misleading_error_gets_a_note(monkeypatch: pytest.MonkeyPatch, make_engine: EngineFactory) -> None:
    """TensorRT-LLM's loader catches every error, so out of memory becomes a KeyError for an MXFP4 tensor name."""

    def fail(*_: Any, **__: Any) -> None:
        try:
            raise KeyError("gate_up_proj_blocks")
        except KeyError as e:
            raise RuntimeError("Executor worker returned error") from e

    monkeypatch.setattr("tensorrt_llm.LLM", fail)
    with pytest.raises(RuntimeError, match="Executor worker returned error") as caught:
        await make_engine()
    assert "usual cause is too little memory" in "".join(caught.value.__notes__)


async def test_the_start_does_not_block_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, make_engine: EngineFactory
) -> None:
    import tensorrt_llm

    real = tensorrt_llm.LLM

    def slow(*args: Any, **kwargs: Any) -> Any:
        time.sleep(0.5)
        return real(*args, **kwargs)

    monkeypatch.setattr("tensorrt_llm.LLM", slow)
    ticks = 0
    starting = asyncio.create_task(make_engine())
    while not starting.done():
        await asyncio.sleep(0.01)
        ticks += 1
    await starting
    assert ticks > 10


def test_without_tensorrt_llm_the_error_names_the_image(tiny_oss: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = EngineConfig(engine="tensorrt_llm", tensorrt_llm=TensorRTLLMConfig(gpu="H100"))
    with _without_modules("serve_apps.engines.tensorrt_llm_engine", "tensorrt_llm"):
        monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "fake_tensorrt_llm" not in entry])
        with pytest.raises(MissingDependencyError, match=r"serve image .* only the extra tuneyard\[tensorrt-llm\]"):
            create_engine(config, tiny_oss)


def test_an_installation_that_is_broken_keeps_its_error(
    tiny_oss: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt_llm.py").write_text("import no_such_library_of_cuda\n")
    config = EngineConfig(engine="tensorrt_llm", tensorrt_llm=TensorRTLLMConfig(gpu="H100"))
    with _without_modules("serve_apps.engines.tensorrt_llm_engine", "tensorrt_llm"):
        monkeypatch.syspath_prepend(str(tmp_path))
        with pytest.raises(ModuleNotFoundError, match="no_such_library_of_cuda"):
            create_engine(config, tiny_oss)


@contextlib.contextmanager
def _without_modules(*roots: str) -> Any:
    """Removes modules from sys.modules and restores them afterwards, because other tests keep references to them."""
    kept = {name: module for name, module in sys.modules.items() if name.startswith(roots)}
    for name in kept:
        del sys.modules[name]
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.startswith(roots)]:
            del sys.modules[name]
        sys.modules.update(kept)
