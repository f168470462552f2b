"""The llama.cpp engine where it fails: an error ends its request if it can, else the engine, and says why."""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from serve_apps.engines.engine_factory import create_engine
from serve_apps.engines.llama_cpp.llama_server import LlamaServer
from tests.serve_apps.engines.llama_cpp.exact_engine import EngineFactory
from tests.serve_apps.engines.test_engine import collect, request, wait_until_idle
from tuneyard.checkpoints.gguf.gguf_types import GgufType
from tuneyard.checkpoints.manifest_writer import write_manifest
from tuneyard.configs.engine import EngineConfig
from tuneyard.configs.engines.llama_cpp import LlamaCppConfig
from tuneyard.core.errors import ConfigError, EngineError, MissingDependencyError


async def test_an_engine_that_reports_nothing_has_failed(make_engine: EngineFactory) -> None:
    engine = await make_engine(stall_timeout_s=0.5)
    complete, hangs = engine._server.complete, asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang(*_: object, **__: object) -> None:
        asyncio.run_coroutine_threadsafe(hangs.wait(), loop).result()

    engine._server.complete = hang
    with pytest.raises(EngineError, match=r"prefilled no batch for 0\.5 s"):
        async with asyncio.timeout(10):
            await collect(engine, request("victim"))
    with pytest.raises(EngineError):
        await engine.check_health()
    with pytest.raises(EngineError):
        await collect(engine, request("later"))
    hangs.set()
    engine._server.complete = complete
    await wait_until_idle(engine)


async def test_a_request_after_a_long_idle_time_is_no_stall(
    make_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread of the request begins late: until then, what llama.cpp reported last is from before the pause."""
    monkeypatch.setattr("serve_apps.engines.llama_cpp.llama_cpp_engine.WATCH_INTERVAL_S", 0.01)
    engine = await make_engine(stall_timeout_s=30)
    complete = engine._server.complete

    def begin_late(*args: Any, **fields: Any) -> None:
        time.sleep(0.1)
        complete(*args, **fields)

    engine._server.complete = begin_late
    engine._server.last_progress -= 3600
    assert len((await collect(engine, request("first")))[0]) == 8


async def test_an_error_of_llama_cpp_ends_its_request_only(engine: Any) -> None:
    complete = engine._server.complete

    def refuse(fields: dict[str, Any], on_chunk: Any, *, logit_bias: str) -> None:
        complete(fields | {"prompt": [10**6]}, on_chunk, logit_bias=logit_bias)

    engine._server.complete = refuse
    with pytest.raises(EngineError, match="invalid tokens"):
        await collect(engine, request("refused"))
    engine._server.complete = complete
    await engine.check_health()
    assert len((await collect(engine, request("next")))[0]) == 8


async def test_a_request_that_llama_cpp_cannot_read_ends_alone_and_is_not_quoted(engine: Any) -> None:
    complete, secret = engine._server.complete, "hunter2"

    def break_json(fields: dict[str, Any], on_chunk: Any, *, logit_bias: str) -> None:
        complete(fields, on_chunk, logit_bias=f"{logit_bias} [{secret}")

    engine._server.complete = break_json
    with pytest.raises(EngineError, match="could not read this request") as error:
        await collect(engine, request("refused"))
    assert secret not in "".join(traceback.format_exception(error.value))
    engine._server.complete = complete
    await engine.check_health()
    assert len((await collect(engine, request("next")))[0]) == 8


async def test_an_unknown_error_ends_the_engine(engine: Any) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory, say")

    engine._server.complete = fail
    for name in ("victim", "later"):
        with pytest.raises(EngineError, match="out of memory, say"):
            await collect(engine, request(name))
    with pytest.raises(EngineError):
        await engine.check_health()


async def test_an_engine_that_has_failed_computes_no_longer(make_engine: EngineFactory) -> None:
    """Otherwise llama.cpp would compute answers without readers until it is shut down."""
    engine = await make_engine()
    others = [asyncio.create_task(collect(engine, request(f"other{i}", 900))) for i in range(4)]
    while not all(answer.token_ids for answer in engine._running) or len(engine._running) < 2:
        await asyncio.sleep(0.001)
    running = list(engine._running)
    engine._fail("The engine failed: say")
    for other in others:
        with pytest.raises(EngineError, match="failed: say"):
            await other
    while engine._running:
        await asyncio.sleep(0.001)
    assert all(len(answer.token_ids) < 900 for answer in running)


async def test_a_model_whose_logits_are_nan_does_not_start(make_engine: EngineFactory, tiny_oss_copy: Path) -> None:
    """Without this, llama.cpp answers with noise where no log-probabilities are asked for."""
    weights = tiny_oss_copy / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"].fill_(3e38)  # overflows; NaN in a checkpoint is refused before
    save_file(tensors, weights, {"format": "pt"})
    write_manifest(tiny_oss_copy, kind="base", name="overflowing", version="1")
    with pytest.raises(EngineError, match=r"logits are not numbers \(NaN\)"):
        await make_engine(tiny_oss_copy)


def test_a_file_that_cannot_be_loaded_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(EngineError, match=r"could not load .*model\.gguf"):
        LlamaServer(LlamaCppConfig(weights=GgufType.F32), tmp_path / "model.gguf")


def test_layers_on_a_gpu_that_is_not_there_are_refused(tmp_path: Path) -> None:
    """The wheel of the test environment is built for CPUs."""
    with pytest.raises(ConfigError, match=r"n_gpu_layers is 3, but the installed xllamacpp finds no GPU"):
        LlamaServer(LlamaCppConfig(weights=GgufType.F32, n_gpu_layers=3), tmp_path / "model.gguf")


def test_without_xllamacpp_the_extra_is_named(tiny_oss: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("serve_apps.engines.llama_cpp")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    config = EngineConfig.model_validate({"engine": "llama_cpp", "llama_cpp": {"weights": "f32"}})
    with pytest.raises(MissingDependencyError, match=r"pip install 'tuneyard\[llama-cpp\]'"):
        create_engine(config, tiny_oss)
