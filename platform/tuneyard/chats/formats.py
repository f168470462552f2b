"""Rows of the formats that people have -> OpenAI chat rows. Detected by their keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

DatasetFormat = Literal["openai", "sharegpt", "alpaca", "prompt_completion", "squad"]

FORMATS: dict[DatasetFormat, tuple[str, tuple[str, ...]]] = {
    "openai": ("OpenAI chat", ("messages",)),
    "sharegpt": ("ShareGPT", ("conversations",)),
    "squad": ("SQuAD", ("context", "question", "answers")),
    "alpaca": ("Alpaca", ("instruction", "output")),
    "prompt_completion": ("prompt and completion", ("prompt", "completion")),
}
"""Name for people, and the keys that a row of the format has."""

SHAREGPT_ROLES = {
    "system": "system", "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant",
    "assistant": "assistant", "model": "assistant", "bing": "assistant", "function_call": "call",
    "tool_call": "call", "observation": "tool", "function_response": "tool", "tool": "tool",
}  # fmt: skip

REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
OWN_KEYS = ("messages", "tools", "metadata", "parallel_tool_calls")


class FormatProblem(Exception):
    """A row is not of the format; the message says why."""


def detect_format(row: Any) -> DatasetFormat | None:
    """The format whose keys the row has, or None."""
    if not isinstance(row, dict):
        return None
    return next((name for name, (_, keys) in FORMATS.items() if all(key in row for key in keys)), None)


def to_openai_row(row: Any, name: DatasetFormat) -> dict[str, Any]:
    """The row with `messages`, `tools` and `metadata`, which holds the keys that the format does not know.

    Raises FormatProblem.
    """
    keys = FORMATS[name][1]
    if not isinstance(row, dict) or not all(key in row for key in keys):
        expected = " and ".join(f"`{key}`" for key in keys)
        raise FormatProblem(f"expected an object with {expected} ({FORMATS[name][0]}), found {short_repr(row)}")
    return _CONVERTERS[name](row)


def _from_openai(row: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(row["messages"], list):
        raise FormatProblem(f"expected a list `messages`, found {short_repr(row['messages'])}")
    metadata = row.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise FormatProblem(f"expected an object `metadata`, found {short_repr(metadata)}")
    return {
        "messages": [_message(message) for message in row["messages"]],
        "tools": _maybe_json(row.get("tools")) or [],
        "metadata": {**_rest(row, OWN_KEYS), **metadata},
    }


def _message(message: Any) -> Any:
    """A message with its usual variations smoothed; what is wrong with it is left to the validation."""
    if not isinstance(message, dict):
        return message
    known = {key: value for key, value in message.items() if value is not None}
    for key in REASONING_KEYS:
        if key in known:
            known["reasoning_content"] = known.pop(key)
    if isinstance(parts := known.get("content"), list) and all(isinstance(p, dict) and "text" in p for p in parts):
        known["content"] = "".join(str(part["text"]) for part in parts)
    if isinstance(calls := known.get("tool_calls"), list):
        known["tool_calls"] = [_call(call) for call in calls]
    if known.get("role") in ("tool", "function"):
        known["role"] = "tool"
        known.pop("name", None)
    return known


def _call(call: Any) -> Any:
    if isinstance(call, dict) and isinstance(function := call.get("function"), dict):
        arguments = function.get("arguments", "{}")
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        return {**call, "function": {**function, "arguments": arguments}}
    return call


def _from_sharegpt(row: dict[str, Any]) -> dict[str, Any]:
    turns = row["conversations"]
    if not isinstance(turns, list):
        raise FormatProblem(f"expected a list `conversations`, found {short_repr(turns)}")
    messages: list[Any] = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    for number, turn in enumerate(turns, start=1):
        if isinstance(turn, dict) and "role" in turn:
            messages.append(_message(turn))
            continue
        role = SHAREGPT_ROLES.get(str(turn.get("from")).lower()) if isinstance(turn, dict) else None
        if role is None or not isinstance(turn.get("value"), str):
            known = ", ".join(SHAREGPT_ROLES)
            raise FormatProblem(
                f"turn {number}: expected `from` (one of {known}) and `value`, found {short_repr(turn)}"
            )
        messages.append(
            _sharegpt_call(turn["value"], number) if role == "call" else {"role": role, "content": turn["value"]}
        )
    tools = _maybe_json(row.get("tools")) or []
    wrapped = [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools]
    return {"messages": messages, "tools": wrapped, "metadata": _rest(row, ("conversations", "system", "tools"))}


def _sharegpt_call(value: str, number: int) -> dict[str, Any]:
    call = _maybe_json(value)
    if not isinstance(call, dict) or "name" not in call:
        raise FormatProblem(
            f"turn {number}: a call must be JSON with `name` and `arguments`, found {short_repr(value)}"
        )
    function = {"name": call["name"], "arguments": call.get("arguments", {})}
    return {"role": "assistant", "tool_calls": [_call({"type": "function", "function": function})]}


def _from_alpaca(row: dict[str, Any]) -> dict[str, Any]:
    messages: list[dict[str, Any]] = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    for pair in row.get("history") or []:
        if not (isinstance(pair, list | tuple) and len(pair) == 2):
            raise FormatProblem(f"`history` must hold pairs of question and answer, found {short_repr(pair)}")
        messages += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    question = row["instruction"] + (f"\n\n{row['input']}" if row.get("input") else "")
    messages += [{"role": "user", "content": question}, {"role": "assistant", "content": row["output"]}]
    return {"messages": messages, "metadata": _rest(row, ("instruction", "input", "output", "system", "history"))}


def _from_prompt_completion(row: dict[str, Any]) -> dict[str, Any]:
    messages = []
    for key, role in (("prompt", "user"), ("completion", "assistant")):
        value = row[key]
        messages += [_message(m) for m in value] if isinstance(value, list) else [{"role": role, "content": value}]
    return {"messages": messages, "metadata": _rest(row, ("prompt", "completion"))}


def _from_squad(row: dict[str, Any]) -> dict[str, Any]:
    """The prompt is NeMo's: llm/gpt/data/squad.py, `Context: … Question: … Answer:`."""
    answers = row["answers"]
    texts = answers.get("text") if isinstance(answers, dict) else answers
    if not isinstance(texts, list) or not texts:
        raise FormatProblem(f"the question has no answer to learn: `answers` is {short_repr(answers)}. Remove the row")
    question = f"Context: {row['context']} Question: {row['question']} Answer:"
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": texts[0]}]
    return {"messages": messages, "metadata": _rest(row, ("context", "question", "answers"))}


_CONVERTERS: dict[DatasetFormat, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "openai": _from_openai,
    "sharegpt": _from_sharegpt,
    "alpaca": _from_alpaca,
    "prompt_completion": _from_prompt_completion,
    "squad": _from_squad,
}


def _maybe_json(value: Any) -> Any:
    """Some datasets keep lists as JSON text."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _rest(row: dict[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in known}


def short_repr(value: Any) -> str:
    """What was found, for a message: at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
