"""Result lines: what one request of a batch came to, as a line of the output or error file, with its counts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from serve_apps.platform_app.batches.batch_store import PartCounts
from serve_apps.platform_app.batches.input.input_rows import InputRow
from tuneyard.api.wire.platform_api.batches import LineError, LineResponse, ResultLine


@dataclass(frozen=True, slots=True)
class RowResult:
    """The result of the request in line `number` of the input file."""

    number: int
    line: bytes
    """With its end."""
    counts: PartCounts

    @property
    def is_output(self) -> bool:
        """Whether it is of the output file; else of the error file."""
        return bool(self.counts.completed)


def answered(batch_id: str, row: InputRow, status: int, request_id: str, body: dict[str, Any]) -> RowResult:
    """The result of a request with an answer: of the output file if its status is 200."""
    response = LineResponse(status_code=status, request_id=request_id, body=body)
    counts = _usage(body) if status == 200 else PartCounts(failed=1)
    return _result(batch_id, row, response, None, counts)


def unanswered(batch_id: str, row: InputRow, code: str, message: str) -> RowResult:
    """The result of a request that was not answered: of the error file."""
    return _result(batch_id, row, None, LineError(code=code, message=message), PartCounts(failed=1))


def _result(
    batch_id: str, row: InputRow, response: LineResponse | None, error: LineError | None, counts: PartCounts
) -> RowResult:
    # The same id if the request is answered again after a crash.
    digest = hashlib.sha256(f"{batch_id}:{row.number}".encode()).hexdigest()[:32]
    line = ResultLine(id=f"batch_req_{digest}", custom_id=row.custom_id, response=response, error=error)
    text = json.dumps(line.model_dump(), ensure_ascii=False, separators=(",", ":"))
    return RowResult(row.number, text.encode() + b"\n", counts)


def _usage(body: dict[str, Any]) -> PartCounts:
    """The tokens of an answer, by the names that its route has for them."""
    usage = body.get("usage") or {}
    is_response = "input_tokens" in usage
    names = ("input_tokens", "output_tokens") if is_response else ("prompt_tokens", "completion_tokens")
    inputs, outputs = (usage.get(f"{name}_details") or {} for name in names)
    return PartCounts(
        completed=1,
        input_tokens=usage.get(names[0], 0),
        cached_tokens=inputs.get("cached_tokens", 0),
        output_tokens=usage.get(names[1], 0),
        reasoning_tokens=outputs.get("reasoning_tokens", 0),
    )
