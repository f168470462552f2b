"""A request is sent again where that helps, and not where it does not."""

from __future__ import annotations

from typing import Any

import pytest

from serve_apps.api.model_calls import CallAnswer
from serve_apps.platform_app.batches.execution.model_lane import ModelLane
from serve_apps.platform_app.batches.execution.row_answers import MISSING_S, RowAnswers
from serve_apps.platform_app.batches.input.input_rows import InputRow
from tests.serve_apps.platform_app.batches.batch_work_setup import CHAT
from tuneyard.configs.http_limits import HttpLimits

BODY = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


class Batch:
    """What is read of a batch."""

    id, owner, endpoint = "batch_1", "me", CHAT


class Script:
    """A model that gives these statuses and codes, and the last one for ever; time passes while a caller sleeps."""

    def __init__(self, *answers: tuple[int, str | None]) -> None:
        self._answers = list(answers)
        self.sent = 0
        self.slept: list[float] = []

    async def complete(self, *_: Any, **__: Any) -> CallAnswer:
        status, code = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        self.sent += 1
        return CallAnswer(status, {"error": {"code": code}} if status != 200 else {"usage": None})

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


async def answer(script: Script, body: dict[str, Any] = BODY, limits: HttpLimits | None = None) -> int:
    """The status of the result."""
    batch: Any = Batch()
    lane = ModelLane(8, now=lambda: sum(script.slept))
    answers = RowAnswers(script, limits or HttpLimits(), script.sleep)
    result = await answers.answer(batch, InputRow(1, "a", body, 100), lane)
    assert result.is_output == (b'"status_code":200' in result.line)
    return 200 if result.is_output else int(result.line.partition(b'"status_code":')[2][:3])


@pytest.mark.parametrize(
    ("answers", "status", "sent"),
    [
        ([(200, None)], 200, 1),
        ([(503, "no_idle_capacity")] * 50 + [(200, None)], 200, 51),
        ([(429, "rate_limit_exceeded")] * 3 + [(200, None)], 200, 4),
        ([(429, "insufficient_quota")], 429, 1),
        ([(400, None)], 400, 1),
        ([(401, "invalid_api_key")], 401, 1),
        ([(404, "model_not_found")] * 5 + [(200, None)], 200, 6),
        ([(404, "previous_response_not_found")], 404, 1),
        ([(500, None), (500, None), (200, None)], 200, 3),
        ([(500, None)], 500, 3),
        ([(504, None), (503, None), (200, None)], 200, 3),
        ([(504, None)], 504, 2),
    ],
)
async def test_what_is_sent_again(answers: list[tuple[int, str | None]], status: int, sent: int) -> None:
    script = Script(*answers)
    assert await answer(script) == status
    assert script.sent == sent


async def test_a_model_may_be_missing_for_a_while() -> None:
    script = Script((404, "model_not_found"))
    assert await answer(script) == 404
    assert MISSING_S <= sum(script.slept) < MISSING_S + 10


async def test_a_broken_replica_gets_time_to_be_replaced() -> None:
    script = Script((500, None))
    await answer(script)
    assert script.slept == [5.0, 15.0]


async def test_the_limits_of_a_live_request_hold_for_a_row() -> None:
    script = Script((200, None))
    assert await answer(script, BODY | {"messages": BODY["messages"] * 9}, HttpLimits(messages=8)) == 400
    assert script.sent == 0
