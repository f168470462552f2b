"""A request over the time limit ends with a 504, or with an error event in mid-stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest

from serve_apps.engine_wrappers.measured_engine import MeasuredEngine
from serve_apps.engine_wrappers.time_limit import TimeLimitedEngine
from serve_apps.engines.engine import GenerationRequest, SamplingParams, TokenChunk
from serve_apps.metrics.exposition import as_text
from tests.serve_apps.api_client import CHAT, TEXT, client_of
from tests.serve_apps.conftest import ModelFactory
from tuneyard.core.errors import AnswerTimeoutError

REQUEST = GenerationRequest("1", (1,), SamplingParams(8), ())


async def test_a_request_over_the_time_limit_is_answered_504(make_model: ModelFactory) -> None:
    slow = make_model(*[f"<|channel|>final<|message|>{TEXT}<|return|>"] * 2, token_interval_s=0.2)
    slow.engine = engine = MeasuredEngine(TimeLimitedEngine(slow.engine, 0.5), "tiny", "tiny/1")
    async with client_of(slow) as client:
        whole = await client.post("/v1/chat/completions", json=CHAT)
        assert (whole.status_code, whole.json()["error"]["type"]) == (504, "timeout_error")
        assert "after 0.5 s (answer_timeout_s)" in whole.json()["error"]["message"]
        asking = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT | {"stream": True}))
        while not engine.waiting_requests:
            await asyncio.sleep(0.01)
        assert 'waiting_requests{model="tiny",replica="",version="tiny/1"} 1.0' in as_text(await engine.metrics())
        streamed = (await asking).text
    assert engine.waiting_requests == 0
    assert "timeout_error" in streamed
    assert "[DONE]" not in streamed
    assert engine.stats().requests == 0
    assert 'outcome="timeout"' in as_text(await engine.metrics())


class Engine:
    """Gives a token after each `wait`, and notes that its stream was closed."""

    def __init__(self, wait: Callable[[], Awaitable[object]]) -> None:
        self._wait = wait
        self.is_closed = False

    async def generate(self, _: GenerationRequest) -> AsyncGenerator[TokenChunk, None]:
        try:
            while True:
                await self._wait()
                yield TokenChunk((1,))
        finally:
            self.is_closed = True


def limited(wait: Callable[[], Awaitable[object]], timeout_s: float) -> tuple[Engine, AsyncGenerator[TokenChunk, None]]:
    engine: Any = Engine(wait)
    return engine, TimeLimitedEngine(engine, timeout_s).generate(REQUEST)


async def test_a_reader_that_is_slow_itself_is_not_cancelled() -> None:
    engine, chunks = limited(lambda: asyncio.sleep(0), 0.05)
    assert (await anext(chunks)).token_ids
    await asyncio.sleep(0.1)
    with pytest.raises(AnswerTimeoutError):
        await anext(chunks)
    assert engine.is_closed


async def test_a_cancelled_reader_stays_cancelled_when_the_time_ends_too() -> None:
    engine, chunks = limited(asyncio.Event().wait, 0.01)
    reader = asyncio.ensure_future(anext(chunks))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.01, reader.cancel)  # in the same turn of the loop
    while not reader.done():
        await asyncio.sleep(0.001)
    assert reader.cancelled() or isinstance(reader.exception(), AnswerTimeoutError)
    assert engine.is_closed
    assert reader.cancelling() == reader.cancelled()


async def test_the_time_limit_counts_in_a_task_that_was_cancelled_before() -> None:
    """A task that cleans up after it was cancelled may still read an answer."""
    outcomes: list[type[BaseException]] = []

    async def read_after_cancellation() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        _, chunks = limited(asyncio.Event().wait, 0.01)
        try:
            await anext(chunks)
        except AnswerTimeoutError as e:
            outcomes.append(type(e))

    task = asyncio.create_task(read_after_cancellation())
    await asyncio.sleep(0)
    task.cancel()
    await task
    assert outcomes == [AnswerTimeoutError]


async def test_a_timeout_of_the_engine_is_its_own() -> None:
    async def fail() -> None:
        raise TimeoutError("the engine's")

    _, chunks = limited(fail, 60)
    with pytest.raises(TimeoutError, match="the engine's"):
        await anext(chunks)


async def test_what_is_there_already_is_given_to_a_slow_reader() -> None:
    """The time is over before the reader comes back: chunks that need no waiting still come, and waiting ends."""
    waits = iter([asyncio.sleep(0) for _ in range(1)])

    async def wait() -> None:
        ready = next(waits, None)
        if ready is not None:
            await ready
        elif wait_for_ever.is_set():
            await asyncio.Event().wait()

    wait_for_ever = asyncio.Event()
    engine, chunks = limited(wait, 0.05)
    async with contextlib.aclosing(chunks):
        await anext(chunks)
        await asyncio.sleep(0.1)
        for _ in range(3):
            assert (await anext(chunks)).token_ids == (1,)
        wait_for_ever.set()
        with pytest.raises(AnswerTimeoutError):
            await anext(chunks)
    assert engine.is_closed
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
