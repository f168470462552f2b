"""Refuses requests that do not fit the model's context."""

from __future__ import annotations

from tuneyard.api.wire.completions import CompletionRequest
from tuneyard.api.wire.sampling import SamplingRequest
from tuneyard.core.errors import RequestError


def fit_to_context(request: SamplingRequest, prompt_tokens: int, context_tokens: int, prompt_field: str) -> int:
    """The most tokens that the answer may have: the request's limit, or else all that the context has left.

    Raises RequestError if the prompt, or the prompt with the request's limit, does not fit the context.
    `prompt_field` is the request's field that holds the prompt, for the error. The error begins as OpenAI's does:
    clients recognise it by "This model's maximum context length is".
    """
    room = context_tokens - prompt_tokens
    if room < 1:
        raise RequestError(
            f"This model's maximum context length is {context_tokens} tokens. However, your {prompt_field} resulted in "
            f"{prompt_tokens} tokens, which leaves no room for an answer. Please reduce the length of the "
            f"{prompt_field}.",
            param=prompt_field,
            code="context_length_exceeded",
        )
    limit = request.token_limit
    if isinstance(request, CompletionRequest) and "max_tokens" not in request.model_fields_set:
        # OpenAI's default is not the client's wish: it is lowered, not refused.
        limit = min(limit or room, room)
    if limit is not None and limit > room:
        field = "max_completion_tokens" if getattr(request, "max_completion_tokens", None) else "max_tokens"
        raise RequestError(
            f"This model's maximum context length is {context_tokens} tokens. However, you requested "
            f"{prompt_tokens + limit} tokens ({prompt_tokens} in the {prompt_field}, and {field}={limit}). Please "
            f"reduce the length of the {prompt_field}, or ask for {field}={room} at most.",
            param=field,
            code="context_length_exceeded",
        )
    return limit or room
