"""Problems of a validated example: rules that every chat follows, and declarations and calls of tools."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

from tuneyard.chats.messages import ChatExample, ChatTool
from tuneyard.chats.row_problems import RowProblem
from tuneyard.chats.rules.call_pairing import find_pairing_problem, interleave_calls
from tuneyard.chats.rules.validation import (
    find_call_problems,
    find_declaration_problems,
    find_field_problems,
    find_order_problem,
    find_schema_problem,
)
from tuneyard.chats.strict_json import parse_json
from tuneyard.core.wording import first_of

MAX_TOOLS = 128
"""Most tools that a request to the served API may declare, as OpenAI's."""


def with_paired_calls(example: ChatExample) -> tuple[ChatExample, RowProblem | None]:
    """The example with several calls of one message as call, result, call, result; a problem if they cannot be."""
    messages = example.messages
    for message in messages:
        if len(message.tool_calls) > 1:
            break
    else:
        return example, None
    last = messages[-1]
    if len(last.tool_calls) > 1:
        text = (
            f"message {len(messages)} calls {len(last.tool_calls)} tools at once and has no results. GPT-OSS makes one "
            "call and waits for its result. Add the results, or drop such rows: data.problems.unanswered_calls=drop."
        )
        return example, RowProblem(example.source, "unanswered_calls", text)
    problem = find_pairing_problem(messages[:-1] if last.tool_calls else messages)
    if problem is not None:
        return example, RowProblem(example.source, "tool_calls", f"message {problem.position + 1} {problem.text}.")
    return example.model_copy(update={"messages": tuple(interleave_calls(messages))}), None


def find_fatal_problem(example: ChatExample) -> RowProblem | None:
    """The first rule that the example breaks, so that it cannot be trained on."""
    where, messages = example.source, example.messages
    roles = [message.role for message in messages]
    if roles and "assistant" not in roles:
        return RowProblem(
            where,
            "no_assistant_turn",
            "the chat has no assistant message to train on: "
            f"the last message has role {roles[-1]!r}, it must be 'assistant'.",
        )
    if order_problem := _order_problem(tuple(roles)):
        expected = "Expected an optional system message, then user and assistant in turn, tool results after calls."
        return RowProblem(where, "role_order", f"{order_problem}. {expected}")
    # Plain: texts in ASCII only, and no field that only some roles may have. None of the later rules can be broken.
    is_plain = not example.tools and "tool" not in roles
    for number, message in enumerate(messages, start=1):
        if not message.content.strip() and not message.tool_calls and message.role != "tool":
            return RowProblem(where, "empty_content", f"message {number} ({message.role}) has empty content.")
        if is_plain:
            reasoning = message.reasoning_content
            is_plain = (
                not (message.tool_calls or message.tool_call_id)
                and message.content.isascii()
                and (not reasoning or (message.role == "assistant" and reasoning.isascii()))
            )
    if is_plain:
        return None
    problems = (
        *(("wrong_field", problem) for problem in find_field_problems(messages)),
        *(("tool_calls", problem) for problem in find_call_problems(messages)),
        *(("tool_calls", problem) for problem in find_declaration_problems(messages, example.tools)),
    )
    for kind, problem in problems:
        return RowProblem(where, kind, f"message {problem.position + 1} {problem.text}.")
    if schema_problem := find_schema_problem(example.tools):
        return RowProblem(where, "wrong_field", f"`tools`: {schema_problem} Simplify it.")
    return _find_surrogate(example)


@lru_cache(maxsize=1024)
def _order_problem(roles: tuple[str, ...]) -> str | None:
    """What is wrong with the order of roles; most rows of a dataset have the same few orders."""
    return find_order_problem(roles)


def _find_surrogate(example: ChatExample) -> RowProblem | None:
    for number, message in enumerate(example.messages, start=1):
        texts = (message.content, message.reasoning_content or "", *(c.function.arguments for c in message.tool_calls))
        if not all(map(_is_unicode, texts)):
            return _surrogate_problem(example, f"message {number} ({message.role})")
    for tool in example.tools:
        if not _is_unicode(tool.function.description + json.dumps(tool.function.parameters, ensure_ascii=False)):
            return _surrogate_problem(example, f"the tool {tool.function.name!r}")
    return None


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _surrogate_problem(example: ChatExample, subject: str) -> RowProblem:
    text = f"{subject} holds half of a UTF-16 pair, as cutting a text within an emoji leaves it. Remove it."
    return RowProblem(example.source, "lone_surrogate", text)


def find_tool_problems(example: ChatExample) -> Iterator[RowProblem]:
    """Tools that the served API would refuse, wrong arguments of calls, and a chat without a trained turn.

    The arguments must be JSON objects.
    """
    where = example.source
    if all(message.weight == 0 for message in example.messages if message.role == "assistant"):
        text = "every assistant message has weight 0, so nothing is learnt from the row. Remove it, or correct weights."
        yield RowProblem(where, "no_trained_turn", text)
    if not example.tools:
        return
    counts = Counter(tool.function.name for tool in example.tools)
    for name, count in counts.items():
        if count > 1:
            yield RowProblem(where, "duplicate_tool", f"`tools` declares {name!r} {count} times. Remove or rename one.")
    if len(example.tools) > MAX_TOOLS:
        text = f"`tools` declares {len(example.tools)} functions; the served API accepts {MAX_TOOLS}. Remove some."
        yield RowProblem(where, "too_many_tools", text)
    required = {tool.function.name: _required_arguments(tool) for tool in example.tools}
    for number, message in enumerate(example.messages, start=1):
        for call in message.tool_calls:
            given, repeated = parse_json(call.function.arguments)
            if repeated:
                text = (
                    f"message {number} calls {call.function.name!r} with arguments that have a key twice in one "
                    f"object: {first_of([f'`{key}`' for key in repeated])}. Remove the other."
                )
                yield RowProblem(where, "duplicate_key", text)
            if missing := [name for name in required.get(call.function.name, ()) if name not in given]:
                text = (
                    f"message {number} calls {call.function.name!r} without the required argument {missing[0]!r}. Add "
                    "it, or correct `required` in the schema."
                )
                yield RowProblem(where, "missing_argument", text)


def _required_arguments(tool: ChatTool) -> list[str]:
    names = (tool.function.parameters or {}).get("required")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
