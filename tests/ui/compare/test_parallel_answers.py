from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from tuneyard.core.errors import TuneyardError
from ui.compare.comparison import Round, Side
from ui.compare.parallel_answers import ParallelAnswers
from ui.endpoints.chat_events import AnswerDelta, ChatEvent
from ui.endpoints.served_models import ServedModel


def round_of(*names: str) -> Round:
    return Round("q", [Side(ServedModel(name, "http://127.0.0.1:1/v1"), name, []) for name in names])


class Streams:
    """Streams that each give a text and then wait until they are released."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.closed: set[str] = set()

    async def open(self, side: Side) -> AsyncIterator[ChatEvent]:
        try:
            yield AnswerDelta(f"from {side.label}")
            await self.released.wait()
            if side.label == "broken":
                raise TuneyardError("the server broke")
            yield AnswerDelta(".")
        finally:
            self.closed.add(side.label)


async def test_all_sides_are_filled_and_one_that_fails_keeps_its_text() -> None:
    answers, streams, shown = ParallelAnswers(), Streams(), round_of("good", "broken")
    answers.start("tab", shown, streams.open)
    assert answers.is_running("tab")
    seen = []
    async for drawn in answers.watch("tab"):
        seen.append([side.answer for side in drawn.sides])
        streams.released.set()
    assert seen[0] == ["from good", "from broken"]
    assert [side.answer for side in shown.sides] == ["from good.", "from broken"]
    assert [side.error for side in shown.sides] == [None, "the server broke"]
    assert not any(side.is_live or side.is_stopped for side in shown.sides)
    assert not answers.is_running("tab")


async def test_a_second_watcher_gets_nothing_and_leaves_the_first_alone() -> None:
    answers, streams, shown = ParallelAnswers(), Streams(), round_of("one", "two")
    answers.start("tab", shown, streams.open)
    async for _ in answers.watch("tab"):
        assert [drawn async for drawn in answers.watch("tab")] == []
        streams.released.set()
    assert [side.answer for side in shown.sides] == ["from one.", "from two."]
    assert [drawn async for drawn in answers.watch("another tab")] == []


async def test_a_watcher_that_leaves_closes_the_streams() -> None:
    answers, streams, shown = ParallelAnswers(), Streams(), round_of("one", "two")
    answers.start("tab", shown, streams.open)
    watcher = answers.watch("tab")
    await anext(watcher)
    await watcher.aclose()
    await asyncio.sleep(0.01)
    assert streams.closed == {"one", "two"}
    assert [(side.answer, side.is_stopped) for side in shown.sides] == [("from one", True), ("from two", True)]
    assert not answers.is_running("tab")


async def test_answers_that_are_stopped_before_they_began_have_ended() -> None:
    answers, streams, first, second = ParallelAnswers(), Streams(), round_of("one"), round_of("two")
    answers.start("tab", first, streams.open)
    answers.start("tab", second, streams.open)
    async for _ in answers.watch("tab"):
        streams.released.set()
    assert (first.sides[0].is_live, first.sides[0].is_stopped, first.sides[0].answer) == (False, True, "")
    assert second.sides[0].answer == "from two."


async def test_a_round_is_stopped_whichever_session_runs_it() -> None:
    answers, streams, shown = ParallelAnswers(), Streams(), round_of("one", "two")
    answers.start("tab", shown, streams.open)
    async for drawn in answers.watch("tab"):
        answers.stop_round(drawn)
        assert not drawn.is_live
    assert all(side.is_stopped for side in shown.sides)
    assert not answers.is_running("tab")
