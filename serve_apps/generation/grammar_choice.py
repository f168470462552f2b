"""Which grammar an answer must follow: for the request's tools, its JSON schema, or none."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from serve_apps.generation.schema_relaxation import enforceable_part, find_unenforceable
from tuneyard.api.wire.chat_request import ChatCompletionRequest
from tuneyard.api.wire.tools import RequestTool
from tuneyard.chats.messages import ChatTool
from tuneyard.core.errors import RequestError
from tuneyard.harmony.answer_grammar import TOOL_RULE, answer_grammar

logger = logging.getLogger(__name__)
_PLACE_IN_GRAMMAR = re.compile(r"at (?P<line>\d+)\(\d+\): (?:failed to compile JSON schema: )?")


def choose_grammar(request: ChatCompletionRequest) -> str | None:
    """The grammar for the engine; None if the request has neither tools nor a schema, and any answer is allowed.

    Where the model may choose whether it calls, a tool without `strict` is enforced as far as that is possible.
    Raises RequestError that names tool and keyword where a schema must be enforced as a whole, and cannot be.
    """
    schema, tools = request.answer_schema, request.callable_tools
    if not tools:
        # With tool_choice "none" only a grammar keeps the model from calling the declared tools.
        return answer_grammar(ending="answer", schema=schema) if schema is not None or request.tools else None
    enforced = _enforceable_tools(tools, request)
    return answer_grammar(enforced, ending="call" if request.requires_call else "either", schema=schema)


def _enforceable_tools(tools: Sequence[RequestTool], request: ChatCompletionRequest) -> list[ChatTool]:
    """The tools with the part of their schemas that a grammar can enforce."""
    enforceable: list[ChatTool] = []
    for tool in tools:
        function = tool.function
        found = list(find_unenforceable(function.parameters or {}))
        if function.strict or request.requires_call:
            if found:
                demand = "strict: true" if function.strict else "a tool_choice that requires a call"
                path, what = found[0]
                param = _schema_param(tool, request)
                reason = f"{what} at {path} of {param} is not supported. Remove it"
                raise _tool_error(function.name, param, f"{reason}; without {demand} it would be left to the model.")
            enforceable.append(tool)
            continue
        if found:
            logger.info("a tool's schema is enforced without: %s", ", ".join(sorted({what for _, what in found})))
        relaxed = enforceable_part(function.parameters) if function.parameters else function.parameters
        enforceable.append(tool.model_copy(update={"function": function.model_copy(update={"parameters": relaxed})}))
    return enforceable


def _schema_param(tool: RequestTool, request: ChatCompletionRequest) -> str:
    """The request's field that holds the tool's schema."""
    return f"tools.{request.tools.index(tool)}.function.parameters"


def _tool_error(name: str, param: str, reason: str) -> RequestError:
    return RequestError(
        f"The schema of the tool {name!r} cannot be enforced: {reason}", param=param, code="invalid_schema"
    )


def blame_tools(error: RequestError, request: ChatCompletionRequest, grammar: str | None) -> RequestError:
    """The engine's error about the grammar with the tool at fault, or `tools`, as its `param`.

    Engines know a grammar by the name `response_format`, whatever the request used it for. llguidance names the line
    of the grammar.
    """
    if error.param != "response_format" or grammar is None:
        return error
    place = _PLACE_IN_GRAMMAR.search(error.message)
    if place is not None:
        rule = TOOL_RULE.match(grammar.splitlines()[int(place["line"]) - 1])
        reason = error.message[place.end() :]
        if rule is not None:
            tool = request.callable_tools[int(rule[1])]
            return _tool_error(tool.function.name, _schema_param(tool, request), reason)
        error = RequestError(error.message[: place.start()] + reason, param=error.param, code=error.code)
    if request.response_format is not None:
        return error
    return RequestError(error.message.replace("'response_format'", "'tools'"), param="tools", code=error.code)
