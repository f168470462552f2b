"""RowAnswers: the answer to one request of a batch, sent again where sending it later helps."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from serve_apps.api.model_calls import CallAnswer
from serve_apps.http_front.body_limits import check_content
from serve_apps.platform_app.batches.batch_record import BatchRecord
from serve_apps.platform_app.batches.execution.model_lane import ModelLane
from serve_apps.platform_app.batches.execution.result_lines import RowResult, answered
from serve_apps.platform_app.batches.input.input_rows import InputRow
from tuneyard.api.wire.errors import error_body
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.core.errors import RequestError

MAX_FAILURES = 3
"""Answers with an error of the server after which the last one is the result. A request that took too long (504) counts
twice."""

MISSING_S = 300.0
"""Seconds for which a model may be missing, for example while it is deployed anew, before its requests fail."""

BUSY_WAIT_S, MAX_BUSY_WAIT_S = 1.0, 5.0
"""Seconds until a request is sent again that found no idle capacity: at first about so many, and at most."""

FAILURE_WAIT_S = 5.0
"""Seconds until a request is sent again that failed, and three times as many for the second time. Meanwhile Ray Serve
notices a broken replica, which answers faster than a working one."""


class Calls(Protocol):
    """See OwnerCalls."""

    async def complete(
        self, owner: str, path: str, body: dict[str, Any], *, request_id: str = "", is_background: bool = False
    ) -> CallAnswer: ...


class RowAnswers:
    """Answers requests of batches over `calls`, each of which has a place in its model's lane meanwhile."""

    def __init__(
        self, calls: Calls, limits: HttpLimits, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._calls = calls
        self._limits = limits
        self._sleep = sleep

    async def answer(self, batch: BatchRecord, row: InputRow, lane: ModelLane) -> RowResult:
        """The result of a row: its answer, or the error that it has each time."""
        failures, wait_s = 0, BUSY_WAIT_S
        while True:
            request_id = uuid.uuid4().hex
            answer = await self._send(batch, row, request_id)
            is_failure = answer.status >= 500 and answer.status != 503
            failures += (2 if answer.status == 504 else 1) if is_failure else 0
            if not self._may_change(answer, lane, failures):
                return answered(batch.id, row, answer.status, request_id, answer.content or {})
            if is_failure:
                await self._sleep(FAILURE_WAIT_S * 3 ** (failures - 1))
            else:
                wait_s = min(wait_s * 1.5, MAX_BUSY_WAIT_S)
                await self._sleep(wait_s * random.uniform(0.5, 1.0))

    async def _send(self, batch: BatchRecord, row: InputRow, request_id: str) -> CallAnswer:
        try:
            check_content(row.body, self._limits)
        except RequestError as e:
            return CallAnswer(e.status_code, error_body(e))
        return await self._calls.complete(
            batch.owner, batch.endpoint, row.body, request_id=request_id, is_background=True
        )

    def _may_change(self, answer: CallAnswer, lane: ModelLane, failures: int) -> bool:
        """Whether the request is to be sent again. Tells the lane what the answer means for it."""
        code = ((answer.content or {}).get("error") or {}).get("code")
        match answer.status:
            case 503:
                lane.record_refusal()
                return True
            case 404 if code == "model_not_found":
                return lane.record_missing() < MISSING_S
            case 429:  # a budget that is used up stays so; tokens that are reserved are given back
                return bool(code == "rate_limit_exceeded")
            case status if status >= 500:
                lane.record_refusal()
                return failures < MAX_FAILURES
        lane.record_answer()
        return False
