"""Which grammar an answer must follow: for the request's tools, its JSON schema, or none."""

from __future__ import annotations

from tuneyard.api.wire.chat_request import ChatCompletionRequest
from tuneyard.core.errors import RequestError
from tuneyard.harmony.answer_grammar import answer_grammar


def choose_grammar(request: ChatCompletionRequest) -> str | None:
    """The grammar for the engine; None if the request has neither tools nor a schema, and any answer is allowed."""
    schema, tools = request.answer_schema, request.callable_tools()
    if not tools:
        # With tool_choice "none" only a grammar keeps the model from calling the declared tools.
        return answer_grammar(ending="answer", schema=schema) if schema is not None or request.tools else None
    must_call = request.tool_choice not in ("auto", "none")
    return answer_grammar(tools, ending="call" if must_call else "either", schema=schema)


def blame_tools(error: RequestError, request: ChatCompletionRequest) -> RequestError:
    """The engine's error, with `tools` named as the field at fault where only the tools asked for a grammar.

    Engines know a grammar by the name `response_format`, whatever the request used it for.
    """
    if error.param != "response_format" or request.response_format is not None:
        return error
    return RequestError(error.message.replace("'response_format'", "'tools'"), param="tools", code=error.code)
