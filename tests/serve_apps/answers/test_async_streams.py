"""Merged streams pass errors on and close; batched texts lose nothing and delay nothing slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from serve_apps.answers.async_streams import batch_texts, merge_streams


async def test_merging_passes_errors_on_and_closes_the_rest() -> None:
    closed = []

    async def endless(name: str) -> AsyncIterator[str]:
        try:
            while True:
                yield name
                await asyncio.sleep(0)
        finally:
            closed.append(name)

    async def failing() -> AsyncIterator[str]:
        yield "f"
        raise ValueError("broken")

    seen = []
    with pytest.raises(ValueError, match="broken"):
        async for item in merge_streams([endless("a"), failing(), endless("b")]):  # type: ignore[list-item]
            seen.append(item)
    assert {"a", "f"} <= set(seen)
    assert sorted(closed) == ["a", "b"]


async def ticking(count: int, every_s: float) -> AsyncIterator[str]:
    for number in range(count):
        await asyncio.sleep(every_s)
        yield f"{number} "


async def test_fast_events_come_together_slow_ones_at_once_and_none_is_lost() -> None:
    fast = [text async for text in batch_texts(ticking(200, 0.0), interval_s=0.05)]
    assert "".join(fast) == "".join(f"{n} " for n in range(200))
    assert len(fast) < 20
    slow = [text async for text in batch_texts(ticking(4, 0.03), interval_s=0.01)]
    assert slow == ["0 ", "1 ", "2 ", "3 "]


async def test_an_error_comes_after_what_was_before_it() -> None:
    async def failing() -> AsyncIterator[str]:
        yield "a"
        raise ValueError("broken")

    seen = []
    with pytest.raises(ValueError, match="broken"):
        async for text in batch_texts(failing()):
            seen.append(text)
    assert seen == ["a"]
