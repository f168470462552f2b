"""Requests and answers of /v1/batches, and the lines of their files. Source: OpenAI API reference, batch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from tuneyard.api.wire.base import RequestModel, WireModel
from tuneyard.api.wire.platform_api.lists import PageQuery
from tuneyard.api.wire.platform_api.metadata import Metadata
from tuneyard.core.errors import RequestError

Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/responses"]

BatchStatus = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]

MIN_EXPIRY_S, MAX_EXPIRY_S = 3600, 2_592_000
"""OpenAI's limits of `output_expires_after`: one hour and 30 days."""

_OTHER_ENDPOINTS = ("/v1/embeddings", "/v1/moderations", "/v1/images/generations", "/v1/images/edits", "/v1/videos")
"""OpenAI's endpoints that no model here has."""


class OutputExpiry(RequestModel):
    """When the files that a batch writes expire: after their own creation."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=MIN_EXPIRY_S, le=MAX_EXPIRY_S)]


class CreateBatchRequest(RequestModel):
    """Body of POST /v1/batches."""

    input_file_id: Annotated[str, Field(min_length=1, max_length=200)]
    endpoint: Endpoint
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: OutputExpiry | None = None

    @classmethod
    def parse(cls, body: Any) -> CreateBatchRequest:
        """See WireModel.parse. OpenAI's other endpoints are refused by name."""
        endpoint = body.get("endpoint") if isinstance(body, dict) else None
        if endpoint in _OTHER_ENDPOINTS:
            raise RequestError(
                f"Batches of {endpoint} are not supported: no model here has this endpoint. Use /v1/chat/completions, "
                "/v1/completions or /v1/responses.",
                param="endpoint",
                code="unsupported",
            )
        return super().parse(body)


class BatchQuery(PageQuery):
    """Query parameters of GET /v1/batches."""


class BatchError(WireModel):
    """What is wrong with the input file. `line` counts from 1; null if the error concerns the whole file."""

    code: str
    line: int | None = None
    message: str
    param: str | None = None


class BatchErrors(WireModel):
    """All that is wrong with the input file, or the first part of it."""

    object: Literal["list"] = "list"
    data: tuple[BatchError, ...]


class RequestCounts(WireModel):
    """How many requests of a batch are answered. Failed ones are those of the error file."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class InputTokensDetails(WireModel):
    """How many of the input tokens the engine had in its cache."""

    cached_tokens: int = 0


class OutputTokensDetails(WireModel):
    """How many of the output tokens are reasoning."""

    reasoning_tokens: int = 0


class BatchUsage(WireModel):
    """The tokens of all requests that were answered."""

    input_tokens: int = 0
    input_tokens_details: InputTokensDetails = InputTokensDetails()
    output_tokens: int = 0
    output_tokens_details: OutputTokensDetails = OutputTokensDetails()
    total_tokens: int = 0


class Batch(WireModel):
    """A batch. Times are Unix times in seconds."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None = None
    """The model of all its requests, once they are validated."""
    errors: BatchErrors | None = None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts = RequestCounts()
    usage: BatchUsage = BatchUsage()
    metadata: dict[str, str] | None = None


class LineResponse(WireModel):
    """The answer to one request of a batch, as its own route would give it."""

    status_code: int
    request_id: str
    body: dict[str, Any]


class LineError(WireModel):
    """Why a request of a batch has no answer."""

    code: str
    message: str


class ResultLine(WireModel):
    """A line of the output file, or of the error file: for answers with another status than 200, and for errors."""

    id: str
    custom_id: str
    response: LineResponse | None
    error: LineError | None
