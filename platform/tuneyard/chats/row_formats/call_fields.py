"""Calls of a message in OpenAI's form: legacy `function_call`, arguments as objects, and results without ids."""

from __future__ import annotations

import json
from typing import Any

from tuneyard.chats.row_formats.chat_row import Finding, FormatProblem, is_empty, parse_if_json, report_unknown
from tuneyard.chats.row_formats.column_names import MEANINGFUL_COLUMNS
from tuneyard.core.wording import short_repr

_HARMLESS_CALL_FIELDS = frozenset({"id", "type", "index", "function"})
_HARMLESS_FUNCTION_FIELDS = frozenset({"name", "arguments", "parsed_arguments"})


def normalize_calls(message: dict[str, Any], subject: str, findings: list[Finding], place: str) -> list[Any]:
    """The calls of a message, from `tool_calls` or the legacy `function_call`; arguments become JSON text."""
    calls = parse_if_json(message.get("tool_calls"))
    legacy = parse_if_json(message.get("function_call"))
    if is_empty(calls):
        return [] if is_empty(legacy) else [_normalize_call({"function": legacy}, findings, place)]
    if not is_empty(legacy):
        raise FormatProblem(f"{subject}: has both `tool_calls` and `function_call`", "given_twice")
    if not isinstance(calls, list | tuple):
        raise FormatProblem(f"{subject}: expected a list `tool_calls`, found {short_repr(calls)}", "wrong_field")
    return [_normalize_call(parse_if_json(call), findings, place) for call in calls]


def call_of(name: Any, arguments: Any) -> dict[str, Any]:
    """A call in OpenAI's form. Raises FormatProblem for arguments that hold NaN."""
    return {"type": "function", "function": {"name": name, "arguments": arguments_text(arguments)}}


def arguments_text(arguments: Any) -> str:
    """Arguments as JSON text; text stays as it is. Raises FormatProblem for NaN."""
    if isinstance(arguments, str):
        return arguments
    try:
        return json.dumps({} if arguments is None else arguments, ensure_ascii=False, allow_nan=False)
    except ValueError as e:
        raise FormatProblem(f"the arguments {short_repr(arguments)} hold NaN or Infinity", "nan_value") from e
    except TypeError as e:
        raise FormatProblem(f"the arguments {short_repr(arguments)} are not JSON", "wrong_field") from e


def _normalize_call(call: Any, findings: list[Finding], place: str) -> Any:
    if not isinstance(call, dict):
        return call
    if "function" not in call and "name" in call:
        call = {key: value for key, value in call.items() if key not in ("name", "arguments")} | {
            "function": {key: call[key] for key in ("name", "arguments") if key in call}
        }
    function = parse_if_json(call["function"]) if "function" in call else None
    if not isinstance(function, dict):
        return call
    report_unknown(call, _HARMLESS_CALL_FIELDS, f"{place}.N.tool_calls.N", MEANINGFUL_COLUMNS, findings)
    report_unknown(
        function, _HARMLESS_FUNCTION_FIELDS, f"{place}.N.tool_calls.N.function", MEANINGFUL_COLUMNS, findings
    )
    fields = {key: call[key] for key in ("id", "type") if call.get(key) is not None}
    named = {key: function[key] for key in ("name",) if key in function}
    return fields | {"function": named | {"arguments": arguments_text(function.get("arguments"))}}


def identify_calls(messages: list[Any]) -> None:
    """Gives ids to several calls of one message and to the results that follow, if none of them has one.

    The results must stand in the order of the calls. Other messages stay as they are. Changes `messages`.
    """
    for position, message in enumerate(messages):
        if not isinstance(message, dict) or "tool_calls" not in message:
            continue
        calls = message["tool_calls"]
        if not isinstance(calls, list) or len(calls) < 2 or not all(isinstance(call, dict) for call in calls):
            continue
        results = []
        for following in messages[position + 1 :]:
            if not (isinstance(following, dict) and following.get("role") == "tool"):
                break
            results.append(following)
        if len(results) != len(calls) or any(call.get("id") for call in calls):
            continue
        if any(result.get("tool_call_id") for result in results):
            continue
        for number, (call, result) in enumerate(zip(calls, results, strict=True), start=1):
            call["id"] = f"call_{position + 1}_{number}"
            result["tool_call_id"] = call["id"]
