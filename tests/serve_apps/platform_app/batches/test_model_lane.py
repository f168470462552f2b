"""Owners take turns in a lane, and its window follows what the model has idle."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.platform_app.batches.execution.model_lane import ModelLane
from serve_apps.platform_app.batches.execution.request_window import RequestWindow


@given(st.integers(1, 64), st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=200))
def test_a_window_stays_in_its_bounds(max_size: int, answers: list[tuple[bool, float]]) -> None:
    window, now = RequestWindow(max_size), 0.0
    for is_answer, seconds in answers:
        now += seconds
        if is_answer:
            window.record_answer()
        else:
            window.record_refusal(now)
        assert 1 <= window.size <= max_size


def test_a_window_finds_the_capacity_of_a_model_and_follows_it() -> None:
    """Each round is a second in which the model answers up to `capacity` requests and refuses those beyond a quarter
    more, as IdleCapacityEngine does."""
    window, now = RequestWindow(1024), 0.0

    def run(rounds: int, capacity: int) -> None:
        nonlocal now
        for _ in range(rounds):
            now += 1
            size = window.size
            for number in range(size):
                if number < capacity + max(4, capacity // 4):
                    window.record_answer()
                else:
                    window.record_refusal(now)

    run(12, 64)
    assert window.size >= 64
    run(100, 64)
    assert 64 <= window.size <= 85
    run(40, 4)  # live requests have come
    assert window.size <= 10
    run(200, 64)
    assert window.size >= 64


def opened(size: int, **options: int) -> ModelLane:
    """A lane whose window has grown to `size`."""
    lane = ModelLane(size, **options)
    for _ in range(size):
        lane.record_answer()
    return lane


async def test_owners_take_turns_and_each_one_keeps_its_order() -> None:
    lane = opened(1)
    order: list[str] = []

    async def send(owner: str, number: int) -> None:
        await lane.take(owner, 1)
        order.append(f"{owner}{number}")
        await asyncio.sleep(0)
        lane.give_back(1)

    requests = [("a", n) for n in range(4)] + [("b", n) for n in range(2)]
    await asyncio.gather(*(send(*request) for request in requests))
    assert order == ["a0", "a1", "b0", "a2", "b1", "a3"]
    assert lane.running == 0


async def test_large_requests_wait_for_memory_and_are_never_stuck() -> None:
    lane = opened(8, max_bytes=100)
    most = 0

    async def send(size: int) -> None:
        nonlocal most
        await lane.take("a", size)
        most = max(most, lane.running)
        await asyncio.sleep(0.001)
        lane.give_back(size)

    await asyncio.gather(*(send(size) for size in (60, 60, 500, 30, 30, 30, 60)))
    assert most == 3
    assert lane.running == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50), st.integers(0, 5)), max_size=20))
async def test_no_place_is_lost_when_requests_are_cancelled(requests: list[tuple[str, int, int]]) -> None:
    lane = opened(3, max_bytes=60)

    async def send(owner: str, size: int) -> None:
        await lane.take(owner, size)
        try:
            await asyncio.sleep(0.0005)
        finally:
            lane.give_back(size)

    tasks = []
    for owner, size, victim in requests:
        tasks.append(asyncio.create_task(send(owner, size)))
        if victim > 3:
            await asyncio.sleep(0)
            tasks[victim % len(tasks)].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert lane.running == 0
    async with asyncio.timeout(1):
        await asyncio.gather(*(send("a", 20) for _ in range(6)))
