"""Tools and tool choices of a request. Functions are flat here: their fields lie beside `type`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from tuneyard.api.wire.base import RequestModel, without_nulls
from tuneyard.api.wire.responses.union_tags import require_objects, tag_of_type, unsupported_type


class FunctionTool(RequestModel):
    """A function that the model may call."""

    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    async_: Literal[False] | None = Field(default=None, alias="async", exclude=True)
    defer_loading: Literal[False] | None = Field(default=None, exclude=True)
    allowed_callers: list[Literal["direct"]] | None = Field(default=None, exclude=True)
    output_schema: dict[str, Any] | None = Field(default=None, exclude=True)
    """Describes results for OpenAI's programs; the model never sees it."""

    def for_chat(self) -> dict[str, Any]:
        """The tool as a chat completion request has it."""
        return {"type": "function", "function": without_nulls(self.model_dump(exclude={"type"}))}


class FunctionChoice(RequestModel):
    """Requires a call of one function."""

    type: Literal["function"]
    name: str


class AllowedTools(RequestModel):
    """Allows only some of the declared functions."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[FunctionChoice] = Field(min_length=1)


ChoiceObject = Annotated[
    Annotated[FunctionChoice, Tag("function-type")] | Annotated[AllowedTools, Tag("allowed_tools-type")],
    Discriminator(tag_of_type),
]


def _tag_of_choice(value: Any) -> str:
    return "object-choice" if isinstance(value, dict | RequestModel) else "mode-choice"


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("mode-choice")] | Annotated[ChoiceObject, Tag("object-choice")],
    Discriminator(_tag_of_choice),
]
CHOICE_TYPES = ("function", "allowed_tools")


def without_ignored(value: Any, ignored: Collection[str]) -> list[dict[str, Any]]:
    """The function tools of `tools`, without the built-in tools whose type is in `ignored`.

    Raises RequestError that names any other built-in tool: the model would answer without it, and nobody would know.
    """
    tools = require_objects(value, "tools")
    for index, tool in enumerate(tools):
        kind = tool.get("type")
        if kind != "function" and kind not in ignored:
            fix = "Remove it from the request, or let the server leave it out: `responses.ignored_tools` in its config."
            raise unsupported_type(kind, f"tools.{index}", ("function",), fix)
    return [tool for tool in tools if tool.get("type") == "function"]


def check_choice_types(value: Any) -> None:
    """Raises RequestError that names a kind of `tool_choice` that is not supported."""
    if not isinstance(value, dict):
        return
    if value.get("type") not in CHOICE_TYPES:
        raise unsupported_type(value.get("type"), "tool_choice", CHOICE_TYPES)
    if value["type"] == "allowed_tools":
        for index, tool in enumerate(require_objects(value.get("tools"), "tool_choice.tools")):
            if tool.get("type") != "function":
                raise unsupported_type(tool.get("type"), f"tool_choice.tools.{index}", ("function",))


def choice_for_chat(choice: str | FunctionChoice | AllowedTools) -> Any:
    """The tool choice as a chat completion request has it."""
    match choice:
        case FunctionChoice(name=name):
            return {"type": "function", "function": {"name": name}}
        case AllowedTools(mode=mode, tools=tools):
            functions = [choice_for_chat(tool) for tool in tools]
            return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": functions}}
        case _:
            return choice
