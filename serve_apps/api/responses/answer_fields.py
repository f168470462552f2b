"""The fields of a Response: those that repeat the request, and those that its end sets."""

from __future__ import annotations

import time
import uuid

from serve_apps.api.responses.output_events import OutputEvents
from tuneyard.api.wire.responses.answer import (
    IncompleteDetails,
    OutputTokensDetails,
    Response,
    ResponseError,
    ResponseStatus,
    ResponseUsage,
)
from tuneyard.api.wire.responses.request import ResponsesRequest
from tuneyard.api.wire.usage import Usage
from tuneyard.core.errors import RateLimitError, RequestError
from tuneyard.harmony.settings import ReasoningEffort


def begin_response(request: ResponsesRequest, effort: ReasoningEffort, *, is_stored: bool) -> Response:
    """The response to a request before its answer. `effort` is the one that the prompt has."""
    choice = request.tool_choice
    return Response(
        id=f"resp_{uuid.uuid4().hex}",
        created_at=int(time.time()),
        model=request.model,
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        metadata=request.metadata,
        parallel_tool_calls=request.parallel_tool_calls,
        previous_response_id=request.previous_response_id,
        prompt_cache_key=request.prompt_cache_key,
        reasoning={"effort": effort, "summary": request.reasoning.summary or request.reasoning.generate_summary},
        safety_identifier=request.safety_identifier,
        store=is_stored,
        temperature=request.temperature,
        text={
            "format": request.text.format.model_dump(by_alias=True, exclude_none=True),
            "verbosity": request.text.verbosity or "medium",
        },
        tool_choice=choice if isinstance(choice, str) else choice.model_dump(),
        tools=[tool.model_dump() for tool in request.tools],
        top_logprobs=request.top_logprobs,
        top_p=request.top_p,
        user=request.user,
    )


def end_response(response: Response, status: ResponseStatus, output: OutputEvents, usage: Usage) -> None:
    """Sets the status, the output and the usage. `incomplete` means that the token limit ended the answer."""
    response.status = status
    response.output = output.items
    response.completed_at = int(time.time()) if status == "completed" else None
    response.incomplete_details = IncompleteDetails(reason="max_output_tokens") if status == "incomplete" else None
    response.usage = ResponseUsage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        output_tokens_details=OutputTokensDetails(reasoning_tokens=usage.completion_tokens_details.reasoning_tokens),
        total_tokens=usage.total_tokens,
    )


def response_error(error: RequestError) -> ResponseError:
    """The error of a response that failed, with the nearest of OpenAI's codes."""
    if isinstance(error, RateLimitError):
        return ResponseError(code="rate_limit_exceeded", message=error.message)
    is_invalid = error.status_code == 400
    return ResponseError(code="invalid_prompt" if is_invalid else "server_error", message=error.message)
