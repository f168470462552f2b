"""The engines side by side: cold start, peak memory, time to the first token and tokens/s, on one checkpoint.

Each row is a process of its own, on the CPUs of this machine. The bare row is llama.cpp's server as the package
xllamacpp offers it, called from threads: what the adapter of the llama.cpp engine costs is the difference.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from serve_apps.engines.engine import GenerationRequest, InferenceEngine, SamplingParams
from serve_apps.engines.engine_factory import create_engine
from tests.bench.bases import SMOL, base
from tests.bench.engine import MAX_CPU_STREAMS, measure_streams, prompt_tokens
from tuneyard.checkpoints.gguf.gguf_types import GgufType
from tuneyard.checkpoints.gguf.node_gguf import local_gguf
from tuneyard.checkpoints.manifest_writer import software_versions
from tuneyard.configs.engine import EngineConfig
from tuneyard.configs.engines.llama_cpp import LlamaCppConfig

STREAMS = (1, 8, 32)
PROMPT_TOKENS, ANSWER_TOKENS = 128, 64
ROUNDS, TURN_TOKENS = 3, 32
ROWS = ("transformers f32", "llama_cpp f32", "llama_cpp q8_0", "bare xllamacpp f32", "bare xllamacpp q8_0")


def run(
    streams: Sequence[int] = STREAMS,
    prompt: int = PROMPT_TOKENS,
    answer: int = ANSWER_TOKENS,
    rows: Sequence[str] = ROWS,
    threads: int | None = None,
) -> dict[str, Any]:
    """Measures every row, one after another. By default with one thread per CPU that this process may use.

    llama.cpp's threads wait actively: beside other work on the same CPUs its rows mean nothing.
    """
    from serve_apps.engines.llama_cpp.llama_server import describe_build

    checkpoint, threads = base(SMOL), threads or len(os.sched_getaffinity(0))
    conversions = {}
    for kind in sorted({GgufType(row.split()[-1]) for row in rows}):
        started = time.monotonic()
        local_gguf(checkpoint, kind)
        conversions[str(kind)] = time.monotonic() - started
    context = multiprocessing.get_context("spawn")
    results = []
    for row in rows:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(
            target=_measure_row, args=(sender, row, checkpoint, threads, tuple(streams), prompt, answer)
        )
        process.start()
        sender.close()
        results.append({"engine": row, **receiver.recv()})
        process.join()
    return {
        "checkpoint": checkpoint.name,
        "threads": threads,
        "software": software_versions("tuneyard", "torch", "transformers", "xllamacpp"),
        "llama_cpp_build": describe_build(),
        "prompt_tokens": prompt,
        "answer_tokens": answer,
        "gguf_made_or_found_s": conversions,
        "engines": results,
    }


def _measure_row(
    sender: Any, row: str, checkpoint: Path, threads: int, streams: tuple[int, ...], prompt: int, answer: int
) -> None:
    """Runs in a process of its own, and sends the row's result."""
    kind = row.split()[-1]
    if row.startswith("transformers"):
        # With more it takes minutes; it is the same library as the peer's in `peer`.
        streams = tuple(count for count in streams if count <= MAX_CPU_STREAMS)
    if row.startswith("bare"):
        result = _measure_bare(local_gguf(checkpoint, GgufType(kind)), threads, streams, prompt, answer)
    else:
        config = _engine_config(row, threads, max(streams), prompt + max(answer, 3 * TURN_TOKENS))
        result = asyncio.run(_measure_engine(config, checkpoint, streams, prompt, answer))
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sender.send({**result, "peak_memory_mib": peak_mib})


def _engine_config(row: str, threads: int, streams: int, length: int) -> EngineConfig:
    name, kind = row.split()
    if name == "transformers":
        cache_tokens = streams * length
        return EngineConfig(threads=threads, kv_cache_tokens=cache_tokens, max_concurrent_requests=streams)
    return EngineConfig(engine="llama_cpp", llama_cpp=_llama_cpp_config(kind, threads, streams, length))


def _llama_cpp_config(kind: str, threads: int, streams: int, length: int) -> LlamaCppConfig:
    return LlamaCppConfig(weights=GgufType(kind), n_threads=threads, n_parallel=streams, n_ctx=streams * length)


async def _measure_engine(
    config: EngineConfig, checkpoint: Path, streams: tuple[int, ...], prompt: int, answer: int
) -> dict[str, Any]:
    started = time.monotonic()
    engine = create_engine(config, checkpoint)
    await engine.start()
    cold_s = time.monotonic() - started
    try:
        await measure_streams(engine, 1, "warm-up", prompt, answer)
        rows = [
            _median_of([await measure_streams(engine, count, f"s{count}-{n}", prompt, answer) for n in range(ROUNDS)])
            for count in streams
        ]
        turns = [await _measure_turns(engine, f"turns-{n}", prompt) for n in range(ROUNDS)]
    finally:
        await engine.shutdown()
    first_s, second_s = (statistics.median(values) for values in zip(*turns, strict=True))
    turn_seconds = {"first_turn_s": first_s, "second_turn_s": second_s}
    return {"cold_start_s": cold_s, "streams": rows, "first_token": turn_seconds}


async def _measure_turns(engine: InferenceEngine, name: str, prompt: int) -> tuple[float, float]:
    """Seconds to the first token of a chat's first turn, and of its second, whose prompt begins with the first."""
    tokens = prompt_tokens(name, prompt)
    first_s, answer = await _first_token(engine, name, tokens, TURN_TOKENS)
    question = prompt_tokens(f"{name}-question", TURN_TOKENS)
    second_s, _ = await _first_token(engine, f"{name}-second", [*tokens, *answer, *question], 2)
    return first_s, second_s


async def _first_token(engine: InferenceEngine, name: str, prompt: list[int], answer: int) -> tuple[float, list[int]]:
    started, first_s = time.monotonic(), 0.0
    tokens: list[int] = []
    request = GenerationRequest(name, tuple(prompt), SamplingParams(answer, temperature=0.0), ())
    async for chunk in engine.generate(request):
        if chunk.token_ids and not tokens:
            first_s = time.monotonic() - started
        tokens.extend(chunk.token_ids)
    return first_s, tokens


def _median_of(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each value."""
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def _measure_bare(gguf: Path, threads: int, streams: tuple[int, ...], prompt: int, answer: int) -> dict[str, Any]:
    import xllamacpp

    from serve_apps.engines.llama_cpp.llama_server import server_parameters

    started = time.monotonic()
    section = _llama_cpp_config("f32", threads, max(streams), prompt + max(answer, 3 * TURN_TOKENS))
    with tempfile.TemporaryDirectory() as folder:
        server = xllamacpp.Server(server_parameters(section, gguf, Path(folder) / "http.sock"))
    cold_s = time.monotonic() - started
    _measure_bare_streams(server, 1, "warm-up", prompt, answer)
    rows = [
        _median_of([_measure_bare_streams(server, count, f"s{count}-{n}", prompt, answer) for n in range(ROUNDS)])
        for count in streams
    ]
    return {"cold_start_s": cold_s, "streams": rows}


def _measure_bare_streams(server: Any, count: int, name: str, prompt: int, answer: int) -> dict[str, Any]:
    """As measure_streams, with one thread per request."""
    together = threading.Barrier(count)

    def one(index: int) -> tuple[float, int]:
        body = {
            "prompt": prompt_tokens(f"{name}-{index}", prompt),
            "n_predict": answer,
            "temperature": 0,
            "samplers": ["temperature"],
            "stream": True,
        }
        times: list[float] = []
        together.wait()
        started = time.monotonic()
        server.handle_completions(json.dumps(body), _record(times))
        # The last chunk has no token.
        return times[0] - started, len(times) - 1

    started = time.monotonic()
    with ThreadPoolExecutor(count) as pool:
        measured = list(pool.map(one, range(count)))
    took = time.monotonic() - started
    firsts = sorted(first for first, _ in measured)
    return {
        "streams": count,
        "first_token_p50_s": statistics.median(firsts),
        "first_token_max_s": firsts[-1],
        "output_tokens_per_s": sum(tokens for _, tokens in measured) / took,
    }


def _record(times: list[float]) -> Callable[[str], bool]:
    def record(_: str) -> bool:
        times.append(time.monotonic())
        return False

    return record
