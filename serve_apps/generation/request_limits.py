"""Refuses requests that do not fit the model's context, and text that would take seconds to encode."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tuneyard.api.wire.completions import CompletionRequest
from tuneyard.api.wire.sampling import SamplingRequest
from tuneyard.core.errors import RequestError

MAX_TOKEN_CHARACTERS = 128
"""Length of the longest token of OpenAI's vocabulary o200k, a run of spaces."""

MAX_RUN_CHARACTERS = 16_384
_LONG_RUN = re.compile(
    rf"[^\W\d_]{{{MAX_RUN_CHARACTERS},}}|[^\w\s]{{{MAX_RUN_CHARACTERS},}}|\s{{{MAX_RUN_CHARACTERS},}}"
)


def check_text_length(texts: Sequence[str], context_tokens: int) -> None:
    """Refuses text before it is encoded: text that cannot fit the context, and very long unbroken runs.

    The tokenizer never splits inside a run of letters, punctuation or spaces, and the time to encode a run grows with
    the square of its length. Raises RequestError.
    """
    characters = sum(map(len, texts))
    if characters > context_tokens * MAX_TOKEN_CHARACTERS:
        raise RequestError(
            f"The text has {characters:,} characters; it is longer than this model's context of {context_tokens} "
            "tokens can hold. Shorten it.",
            param="messages",
            code="context_length_exceeded",
        )
    for text in texts:
        if (run := _LONG_RUN.search(text)) is not None:
            raise RequestError(
                f"The text has more than {MAX_RUN_CHARACTERS} letters, punctuation marks or spaces without a break, "
                f"beginning with {run[0][:8]!r}. Break it up.",
                param="messages",
            )


def fit_to_context(request: SamplingRequest, prompt_tokens: int, context_tokens: int, prompt_field: str) -> int:
    """The most tokens that the answer may have: the request's limit, or else all that the context has left.

    Raises RequestError if the prompt, or the prompt with the request's limit, does not fit the context.
    `prompt_field` is the request's field that holds the prompt, for the error.
    """
    room = context_tokens - prompt_tokens
    if room < 1:
        raise RequestError(
            f"The prompt has {prompt_tokens} tokens; this model's context is {context_tokens} tokens, for prompt and "
            "answer together. Shorten the prompt.",
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
            f"{field}={limit} does not fit: the prompt has {prompt_tokens} tokens, which leaves {room} of this model's "
            f"context of {context_tokens}. Lower {field} or shorten the prompt.",
            param=field,
            code="context_length_exceeded",
        )
    return limit or room
