"""Declarations of tools in OpenAI's form: JSON text, functions without a wrapper, and simplified parameters."""

from __future__ import annotations

import re
from typing import Any

from tuneyard.chats.row_formats.chat_row import (
    Finding,
    FormatProblem,
    holds_nan,
    is_empty,
    parse_if_json,
    report_unknown,
)
from tuneyard.chats.row_formats.column_names import HARMLESS_COLUMNS
from tuneyard.core.wording import short_repr

_FUNCTION_FIELDS = frozenset({"name", "description", "parameters", "strict"})
"""`strict` changes nothing: every served call keeps to the schema."""

_JSON_TYPES = {
    "str": "string", "string": "string", "int": "integer", "integer": "integer", "float": "number", "number": "number",
    "bool": "boolean", "boolean": "boolean", "list": "array", "array": "array", "tuple": "array", "set": "array",
    "dict": "object", "object": "object",
}  # fmt: skip
"""JSON schema's type for each type that datasets name."""


def normalize_tools(
    value: Any, findings: list[Finding], column: str = "tools", *, is_simplified: bool = False
) -> list[Any]:
    """The tools of a column: a list, JSON text, a list of JSON texts, or one tool. Invalid ones stay as they are.

    `is_simplified`: parameters may be a list of names and types instead of JSON schema. Raises
    FormatProblem if the column is not a list of objects, or holds NaN.
    """
    tools = parse_if_json(value)
    if is_empty(tools):
        return []
    if isinstance(tools, dict):
        tools = [tools]
    if not isinstance(tools, list | tuple):
        raise FormatProblem(f"expected a list `{column}`, found {short_repr(tools)}")
    normalized = [_normalize_tool(tool, findings, column, is_simplified=is_simplified) for tool in tools]
    if holds_nan(normalized, column):
        raise FormatProblem(f"`{column}` holds NaN or Infinity: {short_repr(tools)}", "nan_value")
    return normalized


def _normalize_tool(tool: Any, findings: list[Finding], column: str, *, is_simplified: bool) -> Any:
    tool = parse_if_json(tool)
    if not isinstance(tool, dict):
        raise FormatProblem(f"expected objects in `{column}`, found {short_repr(tool)}")
    function = parse_if_json(tool["function"]) if "function" in tool else tool
    if not isinstance(function, dict):
        raise FormatProblem(f"expected an object `function` in `{column}`, found {short_repr(function)}")
    place = f"{column}.N"
    ignored = HARMLESS_COLUMNS - {"title"}
    if function is not tool:
        report_unknown(tool, {"type", "function", *ignored}, place, (), findings)
        place += ".function"
    known = {*_FUNCTION_FIELDS, *ignored, *({"type"} if function is tool else ())}
    report_unknown(function, known, place, (), findings)
    fields = {key: function[key] for key in ("name", "description") if function.get(key) is not None}
    parameters = parse_if_json(function.get("parameters"))
    if parameters is not None:
        fields["parameters"] = _to_schema(parameters) if is_simplified else parameters
    wrapper = {"type": tool["type"]} if function is not tool and tool.get("type") is not None else {}
    return wrapper | {"function": fields}


def _to_schema(parameters: Any) -> Any:
    """Parameters as JSON schema. xLAM lists them as `{name: {type: "int, optional", description, default}}`."""
    if not isinstance(parameters, dict) or not parameters:
        return parameters
    if "properties" in parameters:
        # Some generators write `dict` where JSON schema says `object`.
        return parameters | ({"type": "object"} if parameters.get("type") == "dict" else {})
    if not all(isinstance(value, dict) and "type" in value for value in parameters.values()):
        return parameters
    properties, required = {}, []
    for name, value in parameters.items():
        schema, is_optional = _to_property(value)
        properties[name] = schema
        if not is_optional and "default" not in value:
            required.append(name)
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def _to_property(value: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The JSON schema of one simplified parameter, and whether it is optional."""
    written = value["type"]
    if not isinstance(written, str):
        return value, False
    base, _, rest = written.partition(",")
    is_optional = "optional" in rest.lower() or base.strip().lower().startswith("optional[")
    plain = re.sub(r"^optional\[(.*)\]$", r"\1", base.strip(), flags=re.IGNORECASE)
    name = re.match(r"\w*", plain.lower())
    json_type = _JSON_TYPES.get(name.group() if name else "")
    if json_type is None:
        return value, is_optional
    schema = value | {"type": json_type}
    item = re.search(r"\[(\w+)", plain)
    if json_type == "array" and item and (item_type := _JSON_TYPES.get(item.group(1).lower())) and "items" not in value:
        schema["items"] = {"type": item_type}
    return schema, is_optional
