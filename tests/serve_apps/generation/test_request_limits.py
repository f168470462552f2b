"""The limit of an answer is the request's, or what the context leaves; what does not fit is refused."""

from __future__ import annotations

import pytest

from serve_apps.generation.request_limits import fit_to_context
from tuneyard.api.wire.chat_request import ChatCompletionRequest
from tuneyard.api.wire.completions import CompletionRequest
from tuneyard.core.errors import RequestError

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TEXT = {"model": "m", "prompt": "hi"}


def test_without_a_limit_the_answer_gets_the_rest_of_the_context() -> None:
    assert fit_to_context(ChatCompletionRequest.parse(CHAT), 60, 100, "messages") == 40
    assert fit_to_context(ChatCompletionRequest.parse(CHAT | {"max_tokens": 7}), 60, 100, "messages") == 7
    # OpenAI's default of 16 for completions is lowered, a limit of the client's is refused.
    assert fit_to_context(CompletionRequest.parse(TEXT), 60, 100, "prompt") == 16
    assert fit_to_context(CompletionRequest.parse(TEXT), 95, 100, "prompt") == 5


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_limit_beyond_the_context_is_refused(field: str) -> None:
    with pytest.raises(RequestError, match=rf"requested 101 tokens \(60 .*, and {field}=41\)") as caught:
        fit_to_context(ChatCompletionRequest.parse(CHAT | {field: 41}), 60, 100, "messages")
    assert (caught.value.param, caught.value.code) == (field, "context_length_exceeded")


def test_a_prompt_that_fills_the_context_is_refused() -> None:
    with pytest.raises(RequestError, match="maximum context length is 100 tokens") as caught:
        fit_to_context(CompletionRequest.parse(TEXT), 100, 100, "prompt")
    assert (caught.value.param, caught.value.code) == ("prompt", "context_length_exceeded")
