"""Tools that a request declares, and which of them tool_choice lets the model call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from tuneyard.api.wire.base import Items, RequestModel, without_nulls
from tuneyard.chats.messages import ChatTool, ToolFunction
from tuneyard.core.errors import RequestError


class RequestFunction(ToolFunction):
    """The declaration of a function in a request.

    Without `strict`, keywords of the schema that cannot be enforced are left to the model where it may choose whether
    it calls; with `strict: true` such a keyword is refused.
    """

    model_config = ConfigDict(strict=True)

    strict: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return without_nulls(value)


class RequestTool(ChatTool):
    """A function that the model may call."""

    type: Literal["function"]
    function: RequestFunction


class FunctionName(RequestModel):
    """Names one declared function."""

    name: str


class NamedToolChoice(RequestModel):
    """Requires a call of one function; in `allowed_tools`, allows it."""

    type: Literal["function"]
    function: FunctionName


class AllowedTools(RequestModel):
    """The declared functions that the model may call, and with mode `required` must."""

    mode: Literal["auto", "required"]
    tools: Items[NamedToolChoice] = Field(min_length=1)


class AllowedToolsChoice(RequestModel):
    """Limits calls to some of the declared functions."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


ToolChoice = Literal["none", "auto", "required"] | NamedToolChoice | AllowedToolsChoice


def check_tools(tools: Sequence[RequestTool], choice: ToolChoice) -> None:
    """Raises RequestError for a function that is declared twice, and for a choice of one that is not declared."""
    names = [tool.function.name for tool in tools]
    if len(set(names)) < len(names):
        repeated = next(name for number, name in enumerate(names) if name in names[:number])
        raise RequestError(f"The function {repeated!r} is declared twice.", param="tools")
    if not names and choice not in ("none", "auto"):
        raise RequestError("tool_choice requires a call, but the request declares no tools.", param="tool_choice")
    for name in _chosen_names(choice):
        if name not in names:
            raise RequestError(f"tool_choice names {name!r}; declared: {', '.join(names)}.", param="tool_choice")


def callable_tools(tools: tuple[RequestTool, ...], choice: ToolChoice) -> tuple[RequestTool, ...]:
    """The tools that the choice allows the model to call."""
    if isinstance(choice, str):
        return () if choice == "none" else tools
    names = set(_chosen_names(choice))
    return tuple(tool for tool in tools if tool.function.name in names)


def requires_call(choice: ToolChoice) -> bool:
    """Whether the model must call one of the callable tools."""
    if isinstance(choice, AllowedToolsChoice):
        return choice.allowed_tools.mode == "required"
    return choice not in ("auto", "none")


def _chosen_names(choice: ToolChoice) -> list[str]:
    match choice:
        case NamedToolChoice():
            return [choice.function.name]
        case AllowedToolsChoice():
            return [tool.function.name for tool in choice.allowed_tools.tools]
        case _:
            return []
