"""Converters from each supported row format to OpenAI chat rows, one function per format.

A converter assumes that the row has the keys of its format. It returns `messages`, optionally `tools`, and `metadata`,
which holds the row's other keys. It raises FormatProblem for a row that it cannot convert; what the resulting messages
hold is validated later.
"""

from __future__ import annotations

import json
from typing import Any

from tuneyard.core.wording import short_repr

SHAREGPT_ROLES = {
    "system": "system", "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant",
    "assistant": "assistant", "model": "assistant", "bing": "assistant", "function_call": "call",
    "tool_call": "call", "observation": "tool", "function_response": "tool", "tool": "tool",
}  # fmt: skip
"""OpenAI's role for each `from` of ShareGPT; `call` is an assistant message with a tool call."""

REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
"""Keys under which datasets store the reasoning."""

OPENAI_KEYS = ("messages", "tools", "metadata", "parallel_tool_calls")


class FormatProblem(Exception):
    """A row does not have its format. The message says why, without a full stop."""


def from_openai(row: dict[str, Any]) -> dict[str, Any]:
    """Converts OpenAI's fine-tuning format, and its usual variations, to strict chat rows."""
    if not isinstance(row["messages"], list):
        raise FormatProblem(f"expected a list `messages`, found {short_repr(row['messages'])}")
    metadata = row.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise FormatProblem(f"expected an object `metadata`, found {short_repr(metadata)}")
    return {
        "messages": [_normalize_message(message) for message in row["messages"]],
        "tools": _parse_if_json(row.get("tools")) or [],
        "metadata": {**_other_keys(row, OPENAI_KEYS), **metadata},
    }


def _normalize_message(message: Any) -> Any:
    """The message with common variations in OpenAI's form; invalid values stay for the validation."""
    if not isinstance(message, dict):
        return message
    fields = {key: value for key, value in message.items() if value is not None}
    for key in REASONING_KEYS:
        if key in fields:
            fields["reasoning_content"] = fields.pop(key)
    content = fields.get("content")
    if isinstance(content, list) and all(isinstance(item, dict) and "text" in item for item in content):
        fields["content"] = "".join(str(item["text"]) for item in content)
    if isinstance(calls := fields.get("tool_calls"), list):
        fields["tool_calls"] = [_normalize_call(call) for call in calls]
    if fields.get("role") in ("tool", "function"):
        fields["role"] = "tool"
        fields.pop("name", None)
    return fields


def _normalize_call(call: Any) -> Any:
    """The call with its arguments as JSON text."""
    if isinstance(call, dict) and isinstance(function := call.get("function"), dict):
        arguments = function.get("arguments", "{}")
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        return {**call, "function": {**function, "arguments": arguments}}
    return call


def from_sharegpt(row: dict[str, Any]) -> dict[str, Any]:
    """Converts ShareGPT's `conversations` of `from` and `value`; turns with `role` are read as OpenAI's messages."""
    turns = row["conversations"]
    if not isinstance(turns, list):
        raise FormatProblem(f"expected a list `conversations`, found {short_repr(turns)}")
    messages: list[Any] = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    for number, turn in enumerate(turns, start=1):
        if isinstance(turn, dict) and "role" in turn:
            messages.append(_normalize_message(turn))
            continue
        role = SHAREGPT_ROLES.get(str(turn.get("from")).lower()) if isinstance(turn, dict) else None
        if role is None or not isinstance(turn.get("value"), str):
            known = ", ".join(SHAREGPT_ROLES)
            raise FormatProblem(
                f"turn {number}: expected `from` (one of {known}) and `value`, found {short_repr(turn)}"
            )
        messages.append(
            _from_sharegpt_call(turn["value"], number) if role == "call" else {"role": role, "content": turn["value"]}
        )
    tools = _parse_if_json(row.get("tools")) or []
    wrapped = [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools]
    return {"messages": messages, "tools": wrapped, "metadata": _other_keys(row, ("conversations", "system", "tools"))}


def _from_sharegpt_call(value: str, number: int) -> dict[str, Any]:
    call = _parse_if_json(value)
    if not isinstance(call, dict) or "name" not in call:
        raise FormatProblem(
            f"turn {number}: a call must be JSON with `name` and `arguments`, found {short_repr(value)}"
        )
    function = {"name": call["name"], "arguments": call.get("arguments", {})}
    return {"role": "assistant", "tool_calls": [_normalize_call({"type": "function", "function": function})]}


def from_alpaca(row: dict[str, Any]) -> dict[str, Any]:
    """Converts Alpaca's instruction, optional input and output; `history` holds pairs of question and answer."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    for pair in row.get("history") or []:
        if not (isinstance(pair, list | tuple) and len(pair) == 2):
            raise FormatProblem(f"`history` must hold pairs of question and answer, found {short_repr(pair)}")
        messages += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    question = row["instruction"] + (f"\n\n{row['input']}" if row.get("input") else "")
    messages += [{"role": "user", "content": question}, {"role": "assistant", "content": row["output"]}]
    return {
        "messages": messages,
        "metadata": _other_keys(row, ("instruction", "input", "output", "system", "history")),
    }


def from_prompt_completion(row: dict[str, Any]) -> dict[str, Any]:
    """Converts `prompt` and `completion`; each is a text or a list of messages."""
    messages = []
    for key, role in (("prompt", "user"), ("completion", "assistant")):
        value = row[key]
        if isinstance(value, list):
            messages += [_normalize_message(message) for message in value]
        else:
            messages.append({"role": role, "content": value})
    return {"messages": messages, "metadata": _other_keys(row, ("prompt", "completion"))}


def from_squad(row: dict[str, Any]) -> dict[str, Any]:
    """Converts SQuAD's context, question and first answer to NeMo's prompt `Context: … Question: … Answer:`.

    Source of the prompt: NeMo, nemo/collections/llm/gpt/data/squad.py.
    """
    answers = row["answers"]
    texts = answers.get("text") if isinstance(answers, dict) else answers
    if not isinstance(texts, list) or not texts:
        raise FormatProblem(
            f"the question has no answer to train on: `answers` is {short_repr(answers)}. Remove the row"
        )
    question = f"Context: {row['context']} Question: {row['question']} Answer:"
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": texts[0]}]
    return {"messages": messages, "metadata": _other_keys(row, ("context", "question", "answers"))}


def _parse_if_json(value: Any) -> Any:
    """The parsed value of JSON text, as which some datasets store lists; any other value unchanged."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _other_keys(row: dict[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in known}
