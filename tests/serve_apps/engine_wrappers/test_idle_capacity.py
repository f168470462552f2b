"""Background requests run on idle capacity, and give way to live ones."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.engine_wrappers.idle_capacity import NO_IDLE_CAPACITY, IdleCapacityEngine, in_background
from serve_apps.engines.engine import GenerationRequest, SamplingParams
from serve_apps.engines.scripted_engine import ScriptedEngine
from tuneyard.core.errors import OverloadedError

TOKENS = 20


def request(name: str, tokens: int = TOKENS) -> GenerationRequest:
    return GenerationRequest(name, (1,), SamplingParams(tokens), ())


async def answer(engine: IdleCapacityEngine, name: str, tokens: int = TOKENS) -> int:
    """Tokens of a whole answer."""
    return sum([len(chunk.token_ids) async for chunk in engine.generate(request(name, tokens))])


def background(engine: IdleCapacityEngine, name: str, tokens: int = TOKENS) -> asyncio.Task[int]:
    """A background request, which is a call of its own."""
    with in_background():
        return asyncio.create_task(answer(engine, name, tokens))


def live(engine: IdleCapacityEngine, name: str, tokens: int = TOKENS) -> asyncio.Task[int]:
    return asyncio.create_task(answer(engine, name, tokens))


def engines(
    capacity: int, token_interval_s: float = 0.005, **seconds: float
) -> tuple[ScriptedEngine, IdleCapacityEngine]:
    inner = ScriptedEngine([[7]], token_interval_s)
    return inner, IdleCapacityEngine(inner, capacity, **seconds)


async def code_of(task: asyncio.Task[int]) -> str | None:
    """The code of the OverloadedError that a request ends with; None for an answer."""
    try:
        assert await task == TOKENS
    except OverloadedError as e:
        return e.code
    return None


async def test_background_requests_fill_what_is_idle_and_no_more() -> None:
    inner, engine = engines(3)
    first = live(engine, "live")
    await asyncio.sleep(0)
    tasks = [background(engine, f"b{number}") for number in range(5)]
    await asyncio.sleep(0.02)
    assert inner.stats().requests == 3
    await asyncio.gather(first, *tasks)


async def test_a_call_too_many_is_refused_and_no_choice_of_a_call_that_has_begun() -> None:
    _, engine = engines(1)
    with in_background():  # one call with ten choices
        choices = [asyncio.create_task(answer(engine, f"choice{number}")) for number in range(10)]
    others = [background(engine, f"b{number}") for number in range(6)]
    codes = await asyncio.gather(*map(code_of, others))
    assert codes.count(NO_IDLE_CAPACITY) == 3  # three wait, behind the first call
    assert await asyncio.gather(*choices) == [TOKENS] * 10


async def test_a_live_request_takes_the_place_of_the_youngest_background_one() -> None:
    inner, engine = engines(2)
    old, young = background(engine, "old"), background(engine, "young")
    await asyncio.sleep(0.02)
    assert await live(engine, "live") == TOKENS
    assert (await code_of(old), await code_of(young)) == (None, NO_IDLE_CAPACITY)
    assert inner.stats().requests == 0


async def test_a_live_request_that_stays_without_a_token_gets_more_room() -> None:
    # As behind long prompts, though there are free places.
    _, engine = engines(8, token_interval_s=0.12, patience_s=0.05)
    tasks = [background(engine, f"b{number}") for number in range(3)]
    await asyncio.sleep(0)
    await live(engine, "live", tokens=1)
    codes = [await code_of(task) for task in tasks]
    assert codes == [None, NO_IDLE_CAPACITY, NO_IDLE_CAPACITY]


async def test_a_live_request_keeps_its_timer_no_longer_than_it_needs() -> None:
    _, engine = engines(8, patience_s=0.02)
    other = background(engine, "other")
    for number in range(3):
        stream: Any = engine.generate(request(f"live{number}"))
        async for chunk in stream:
            if chunk.token_ids:
                break
        if number:  # also if its client leaves
            await stream.aclose()
    await asyncio.sleep(0.05)
    assert await code_of(other) is None


async def test_a_pause_follows_an_abort() -> None:
    inner, engine = engines(1, pause_s=0.1)
    aborted = background(engine, "aborted")
    await asyncio.sleep(0)
    waiting = background(engine, "waiting")
    await live(engine, "live", tokens=1)
    assert await code_of(aborted) == NO_IDLE_CAPACITY
    await asyncio.sleep(0.02)
    assert inner.stats().requests == 0
    assert await waiting == TOKENS


async def test_a_waiting_request_can_be_cancelled() -> None:
    inner, engine = engines(1)
    running, waiting, behind = (background(engine, name) for name in ("running", "waiting", "behind"))
    await asyncio.sleep(0)
    waiting.cancel()
    assert await running == await behind == TOKENS
    assert waiting.cancelled()
    assert inner.stats().requests == 0


@settings(max_examples=60, deadline=None)
@given(
    capacity=st.integers(1, 4),
    steps=st.lists(
        st.tuples(st.sampled_from(["live", "background", "cancel", "wait"]), st.integers(0, 30)), max_size=25
    ),
)
async def test_nothing_is_left_over_whatever_comes_and_leaves(capacity: int, steps: list[tuple[str, int]]) -> None:
    inner, engine = engines(capacity, token_interval_s=0.0005, pause_s=0.001)
    tasks: list[asyncio.Task[int]] = []
    lives: set[asyncio.Task[int]] = set()
    for number, (kind, value) in enumerate(steps):
        if kind == "live":
            tasks.append(live(engine, str(number), 1 + value))
            lives.add(tasks[-1])
        elif kind == "background":
            tasks.append(background(engine, str(number), 1 + value))
        elif kind == "cancel" and tasks:
            tasks[value % len(tasks)].cancel()
        else:
            await asyncio.sleep(0.0002 * value)
        running_lives = sum(not task.done() for task in lives)
        assert inner.stats().requests <= max(capacity, running_lives) + len(lives)
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, OverloadedError):
            await task
        if task in lives and not task.cancelled():
            assert task.exception() is None
    assert inner.stats().requests == 0
    async with asyncio.timeout(2):  # every place is free again
        with in_background():
            await asyncio.gather(*(answer(engine, f"last{number}", 2) for number in range(capacity)))
