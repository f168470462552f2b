"""Requests that wait for their turn go on in different turns of the event loop."""

from __future__ import annotations

import asyncio

from serve_apps.http_front.loop_turns import LoopTurns


async def test_no_two_requests_go_on_in_the_same_turn() -> None:
    turns, turn, went_on = LoopTurns(), 0, []

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def request() -> None:
        await turns.wait()
        went_on.append(turn)

    counting = asyncio.create_task(count_turns())
    await asyncio.gather(*(request() for _ in range(20)))
    counting.cancel()
    assert len(set(went_on)) == 20
    assert went_on == sorted(went_on)


async def test_a_request_that_is_cancelled_holds_up_no_other() -> None:
    turns = LoopTurns()
    tasks = [asyncio.create_task(turns.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[1].cancel()
    await asyncio.wait_for(tasks[2], 30)
