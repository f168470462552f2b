"""BatchRecord: a batch as the store has it, and as clients see it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from serve_apps.platform_app.batches.states import ENDED
from serve_apps.platform_app.batches.tables import TIMES
from tuneyard.api.wire.platform_api.batches import (
    Batch,
    BatchError,
    BatchErrors,
    BatchStatus,
    BatchUsage,
    InputTokensDetails,
    OutputTokensDetails,
    RequestCounts,
)


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A batch. `columns` are those of BATCHES that only clients see."""

    id: str
    owner: str
    status: BatchStatus
    endpoint: str
    input_file_id: str
    expires_at: float
    is_expired: bool
    total: int
    """Requests; 0 until the input file is validated."""
    model: str | None
    output_file_id: str | None
    error_file_id: str | None
    output_expires_after_s: int | None
    columns: dict[str, Any]

    def as_object(self) -> Batch:
        """The batch as clients see it: its files are there once it has ended."""
        columns = self.columns
        errors = json.loads(columns["errors"]) if columns["errors"] else None
        is_over = self.status in ENDED
        return Batch(
            id=self.id,
            endpoint=self.endpoint,
            model=self.model,
            errors=BatchErrors(data=tuple(map(BatchError.model_validate, errors))) if errors else None,
            input_file_id=self.input_file_id,
            completion_window="24h",
            status=self.status,
            output_file_id=self.output_file_id if is_over else None,
            error_file_id=self.error_file_id if is_over else None,
            created_at=int(columns["created_at"]),
            expires_at=int(self.expires_at),
            request_counts=RequestCounts(total=self.total, completed=columns["completed"], failed=columns["failed"]),
            usage=BatchUsage(
                input_tokens=columns["input_tokens"],
                input_tokens_details=InputTokensDetails(cached_tokens=columns["cached_tokens"]),
                output_tokens=columns["output_tokens"],
                output_tokens_details=OutputTokensDetails(reasoning_tokens=columns["reasoning_tokens"]),
                total_tokens=columns["input_tokens"] + columns["output_tokens"],
            ),
            metadata=json.loads(columns["metadata"]) if columns["metadata"] else None,
            **{name: int(columns[name]) for name in TIMES if columns[name] is not None},
        )


def read_record(row: Row[Any]) -> BatchRecord:
    """The batch in a row of BATCHES."""
    columns = dict(row._mapping)
    own = {name: columns[name] for name in BatchRecord.__dataclass_fields__ if name != "columns"}
    return BatchRecord(**own, columns=columns)
