"""Requests that a run asks its model, and their answers as `sample` of an output item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serve_apps.platform_app.evals.grading.model_calls import Completion
from tuneyard.api.wire.platform_api.eval_runs import (
    CompletionsDataSource,
    CompletionsSampling,
    ItemReference,
    ResponsesDataSource,
    ResponsesSampling,
)
from tuneyard.api.wire.platform_api.grader_messages import TemplateMessage
from tuneyard.core.errors import EvaluationError
from tuneyard.evaluation.templates import Template, Variable

DEFAULT_TEMPERATURE = 1.0
DEFAULT_TOP_P = 1.0
"""The values for chat completions that do not set them."""


def render_messages(messages: Sequence[TemplateMessage], values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The messages with the values of their variables. Raises EvaluationError for a variable without a value."""
    return [
        {"role": message.role, "content": "".join(Template.parse(text).render(values) for text in message.texts)}
        for message in messages
    ]


def chat_request(source: CompletionsDataSource | ResponsesDataSource, item: Mapping[str, Any]) -> dict[str, Any]:
    """The chat completion request for a row. Raises EvaluationError if the row lacks what the prompt needs."""
    values = {"item": item}
    if isinstance(source.input_messages, ItemReference):
        messages = _referenced_messages(source.input_messages.item_reference, values)
    else:
        messages = render_messages(source.input_messages.template, values)
    return {"model": source.model, "messages": messages} | _sampling_fields(source.sampling_params)


def sample_object(completion: Completion) -> dict[str, Any]:
    """`sample` of an output item, or of a model grader's result: the messages, and how they were sampled."""
    request, content = completion.request, completion.content
    return {
        "input": [_message(message) for message in request["messages"]],
        "output": [_message(choice["message"]) for choice in content["choices"]],
        "finish_reason": content["choices"][0]["finish_reason"],
        "model": content["model"],
        "usage": completion.usage,
        "error": None,
        "temperature": request.get("temperature", DEFAULT_TEMPERATURE),
        "max_completion_tokens": request.get("max_completion_tokens"),
        "top_p": request.get("top_p", DEFAULT_TOP_P),
        "seed": request.get("seed"),
    }


def unsampled_object(row_sample: Mapping[str, Any] | None) -> dict[str, Any]:
    """`sample` of an output item whose answer was in the row: what is not known about it is null."""
    text = (row_sample or {}).get("output_text")
    return _empty_sample() | {"output": [_message({"role": "assistant", "content": text})] if text is not None else []}


def failed_object(code: str, message: str) -> dict[str, Any]:
    """`sample` of an output item for which the model gave none."""
    return _empty_sample() | {"error": {"code": code, "message": message}}


def _empty_sample() -> dict[str, Any]:
    return {
        "input": [],
        "output": [],
        "finish_reason": None,
        "model": None,
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "cached_tokens": 0},
        "error": None,
        "temperature": None,
        "max_completion_tokens": None,
        "top_p": None,
        "seed": None,
    }


def _referenced_messages(reference: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages = Variable.parse(reference).resolve(values)
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise EvaluationError(
            f"{reference} must be a list of messages, each an object with role and content.", "variable"
        )
    return [{key: value for key, value in message.items() if key != "type"} for message in messages]


def _sampling_fields(sampling: CompletionsSampling | ResponsesSampling | None) -> dict[str, Any]:
    """The fields of a chat completion request, without those that are not set."""
    if sampling is None:
        return {}
    fields: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "max_completion_tokens": sampling.token_limit,
        "reasoning_effort": sampling.reasoning_effort,
    }
    if isinstance(sampling, ResponsesSampling):
        fields["response_format"] = sampling.text.format_for_chat() if sampling.text is not None else None
        fields["tools"] = [tool.for_chat() for tool in sampling.tools or ()] or None
    else:
        form = sampling.response_format
        fields["response_format"] = form.model_dump(by_alias=True, exclude_none=True) if form is not None else None
        fields["tools"] = [tool.model_dump(exclude_none=True) for tool in sampling.tools or ()] or None
    return {name: value for name, value in fields.items() if value is not None}


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message with the fields that OpenAI's output items have."""
    return {
        "role": message.get("role"),
        "content": message.get("content"),
        "tool_call_id": message.get("tool_call_id"),
        "tool_calls": message.get("tool_calls") or None,
        "function_call": None,
    }
