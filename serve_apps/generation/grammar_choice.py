"""Which grammar an answer must follow: for the request's tools, its JSON schema, or none."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from serve_apps.generation.schema_relaxation import enforceable_part, find_unenforceable
from tuneyard.api.wire.chat_request import ChatCompletionRequest
from tuneyard.api.wire.tools import RequestTool
from tuneyard.chats.messages import ChatTool
from tuneyard.core.errors import RequestError
from tuneyard.harmony.answer_grammar import answer_grammar

logger = logging.getLogger(__name__)


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
        if not found:
            enforceable.append(tool)
            continue
        if function.strict or request.requires_call:
            path, what = found[0]
            param = f"tools.{request.tools.index(tool)}.function.parameters"
            demand = "strict: true" if function.strict else "a tool_choice that requires a call"
            raise RequestError(
                f"The schema of the tool {function.name!r} cannot be enforced: {what} at {path} of {param} is not "
                f"supported. Remove it; without {demand} it would be left to the model.",
                param=param,
                code="invalid_schema",
            )
        logger.info("a tool's schema is enforced without: %s", ", ".join(sorted({what for _, what in found})))
        relaxed = function.model_copy(update={"parameters": enforceable_part(function.parameters or {})})
        enforceable.append(tool.model_copy(update={"function": relaxed}))
    return enforceable


def blame_tools(error: RequestError, request: ChatCompletionRequest) -> RequestError:
    """The engine's error, with `tools` named as the field at fault where only the tools asked for a grammar.

    Engines know a grammar by the name `response_format`, whatever the request used it for.
    """
    if error.param != "response_format" or request.response_format is not None:
        return error
    return RequestError(error.message.replace("'response_format'", "'tools'"), param="tools", code=error.code)
