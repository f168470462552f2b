"""The pause table: the most expensive request that each route accepts, and how long it holds the event loop.

In one process without a network; the engine is scripted. `cpu_pause_ms` is the CPU time between two turns of the loop,
`wall_pause_ms` also has the time in which other processes of the machine ran. `health_ms` is how long GET /healthz
takes while ten of these requests are prepared. `full_collection_ms` is what Python's garbage collector takes for all
objects of a process that has imported what a replica has: before they are frozen, as a replica does, and after.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Callable
from typing import Any

import httpx

from serve_apps.api.routes import create_api
from serve_apps.engines.grammars.grammar_compiler import GrammarCompiler
from serve_apps.engines.scripted_engine import ScriptedEngine
from serve_apps.generation.served_model import ServedModel
from serve_apps.processes.garbage_collection import freeze_loaded_objects
from tests.bench.bases import TINY, base
from tests.harmony_text import encode_spelled_out
from tests.serve_apps.api_client import ANSWER
from tests.serve_apps.hostile.hostile_requests import refused_requests, worst_requests
from tests.serve_apps.hostile.loop_watchdog import LoopWatchdog
from tuneyard.configs.grammar_limits import GrammarLimits
from tuneyard.core.errors import RequestError
from tuneyard.harmony.answer_grammar import answer_grammar
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings

GRAMMARS: dict[str, dict[str, Any]] = {
    "2,000 choices": {"enum": [f"choice {i}" for i in range(2000)]},
    "multipleOf a million": {"type": "integer", "multipleOf": 1_000_003},
    "allOf of seven multipleOf": {"allOf": [{"type": "integer", "multipleOf": p} for p in (7, 11, 13, 17, 19, 23, 29)]},
}


def run() -> dict[str, Any]:
    """A row per request: status, seconds, longest pause of the event loop in milliseconds."""
    return {"full_collection_ms": _collect_garbage()} | asyncio.run(_measure())


def _collect_garbage() -> dict[str, float]:
    import ray.serve  # noqa: F401
    import transformers.models.gpt_oss.modeling_gpt_oss  # noqa: F401

    gc.collect()
    figures = {"before": _timed(gc.collect)}
    freeze_loaded_objects()
    return figures | {"frozen": _timed(gc.collect)}


def _timed(action: Callable[[], Any]) -> float:
    started = time.thread_time()
    action()
    return round(1000 * (time.thread_time() - started), 1)


async def _measure() -> dict[str, Any]:
    tiny = base(TINY)
    codec = HarmonyCodec.from_checkpoint(tiny, CodecSettings())
    script = [encode_spelled_out(tiny, ANSWER)]
    engine = ScriptedEngine(script, max_model_len=131_072, options=frozenset({"logit_bias", "response_format"}))
    model = ServedModel(engine, codec, "tiny", "0123456789abcdef")
    transport = httpx.ASGITransport(create_api(model), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://bench", timeout=300) as client:
        worst, refused = worst_requests(), refused_requests()
        await _row(client, *worst[0])  # starts the worker process
        model.warm_up()  # both as a replica does
        freeze_loaded_objects()
        rows = [await _row(client, *request) for request in worst]
        refusals = [await _row(client, *request) for request in refused]
        health = await _health(client, [(path, json.dumps(body).encode()) for _, path, body in worst[:10]])
    model.prompts.close()
    grammars = await _grammars(tiny, codec.vocabulary_size)
    _print_table([*rows, *refusals, *grammars])
    return {"accepted": rows, "refused": refusals, "grammars": grammars, "health_ms": health}


async def _row(client: httpx.AsyncClient, name: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    data = json.dumps(body).encode()
    started = time.monotonic()
    async with LoopWatchdog() as watchdog:
        status = await _send(client, path, data)
    return {"path": path, "request": name, "status": status, **_figures(started, watchdog)}


async def _send(client: httpx.AsyncClient, path: str, data: bytes) -> int:
    answer = await client.post(path, content=data, headers={"Content-Type": "application/json"})
    return answer.status_code


async def _health(client: httpx.AsyncClient, requests: list[tuple[str, bytes]]) -> float:
    """The longest time of a health check, in milliseconds, while the requests are prepared."""
    sending = [asyncio.create_task(_send(client, path, data)) for path, data in requests]
    longest = 0.0
    while not all(task.done() for task in sending):
        started = time.monotonic()
        await client.get("/healthz")
        longest = max(longest, time.monotonic() - started)
        await asyncio.sleep(0.01)
    return 1000 * longest


async def _grammars(checkpoint: Any, vocabulary_size: int) -> list[dict[str, Any]]:
    compiler = GrammarCompiler(checkpoint, vocabulary_size, GrammarLimits())
    rows = []
    for name, schema in {"warms up": {"type": "object"}, **GRAMMARS}.items():
        started = time.monotonic()
        status = 200
        async with LoopWatchdog() as watchdog:
            try:
                await compiler.compile(answer_grammar(ending="answer", schema=schema))
            except RequestError as e:
                status = e.status_code
        rows.append({"path": "grammar", "request": name, "status": status, **_figures(started, watchdog)})
    compiler.close()
    return rows[1:]


def _figures(started: float, watchdog: LoopWatchdog) -> dict[str, float]:
    return {
        "seconds": round(time.monotonic() - started, 3),
        "cpu_pause_ms": round(1000 * watchdog.cpu_pause_s, 1),
        "wall_pause_ms": round(1000 * watchdog.wall_pause_s, 1),
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    print(f"{'route':24}{'request':36}{'status':>6}{'s':>9}{'CPU pause ms':>14}{'wall ms':>9}")
    for row in rows:
        print(
            f"{row['path']:24}{row['request']:36}{row['status']:>6}{row['seconds']:>9}{row['cpu_pause_ms']:>14}"
            f"{row['wall_pause_ms']:>9}"
        )
