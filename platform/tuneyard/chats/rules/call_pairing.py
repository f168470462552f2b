"""Pairs tool calls with their results: several calls in one message become call, result, call, result.

Harmony calls one function at a time and continues after its result, but histories of other models hold several calls
in one assistant message, followed by their results in any order.
"""

from __future__ import annotations

from collections.abc import Sequence

from tuneyard.chats.messages import ChatMessage
from tuneyard.chats.rules.validation import MessageProblem


def find_pairing_problem(messages: Sequence[ChatMessage]) -> MessageProblem | None:
    """The first call without a result, result without a call, or id that is missing or used twice.

    The results of a message's calls must follow it at once, in any order. A single call and its result may omit the
    id; several calls need ids.
    """
    position = 0
    while position < len(messages):
        message = messages[position]
        if message.role == "tool":
            return MessageProblem(position, "", "(tool) answers no call: a result must follow its call")
        if message.role != "assistant" or not message.tool_calls:
            position += 1
            continue
        end = _end_of_results(messages, position)
        if (problem := _find_block_problem(messages, position, end)) is not None:
            return problem
        position = end
    return None


def interleave_calls(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The messages with each call followed by its result. Messages with one call at most stay as they are.

    Content and reasoning of a message stay with its first call. The messages must have no pairing problem.
    """
    interleaved: list[ChatMessage] = []
    position = 0
    while position < len(messages):
        message = messages[position]
        if len(message.tool_calls) < 2:
            interleaved.append(message)
            position += 1
            continue
        end = _end_of_results(messages, position)
        results = {result.tool_call_id: result for result in messages[position + 1 : end]}
        for number, call in enumerate(message.tool_calls):
            own_text = {} if number == 0 else {"content": "", "reasoning_content": None}
            interleaved.append(message.model_copy(update={"tool_calls": (call,), **own_text}))
            interleaved.append(results[call.id])
        position = end
    return interleaved


def _end_of_results(messages: Sequence[ChatMessage], position: int) -> int:
    """The index after the tool messages that follow the message at `position`."""
    end = position + 1
    while end < len(messages) and messages[end].role == "tool":
        end += 1
    return end


def _find_block_problem(messages: Sequence[ChatMessage], position: int, end: int) -> MessageProblem | None:
    """What is wrong between the calls of `messages[position]` and the results up to `end`."""
    calls = messages[position].tool_calls
    if len(calls) > 1:
        return _find_id_problem(messages, position, end)
    if end == position + 1:
        return _missing_result(messages, position, end, 0)
    result_id, call_id = messages[position + 1].tool_call_id, calls[0].id
    if result_id and call_id and result_id != call_id:
        text = f"(tool) answers {result_id!r}, but the open call is {call_id!r}"
        return MessageProblem(position + 1, "tool_call_id", text)
    if end > position + 2:
        text = f"(tool) answers no call: the call of {calls[0].function.name!r} before it already has its result"
        return MessageProblem(position + 2, "", text)
    return None


def _find_id_problem(messages: Sequence[ChatMessage], position: int, end: int) -> MessageProblem | None:
    """What is wrong with the ids that pair several calls in `messages[position]` with the results up to `end`."""
    calls = messages[position].tool_calls
    numbers: dict[str, int] = {}
    for number, call in enumerate(calls):
        if not call.id:
            text = f"makes {len(calls)} calls; the call of {call.function.name!r} has no id to pair its result by"
            return MessageProblem(position, "tool_calls", text)
        if call.id in numbers:
            return MessageProblem(position, "tool_calls", f"has two calls with the id {call.id!r}")
        numbers[call.id] = number
    answered: set[str] = set()
    for index in range(position + 1, end):
        call_id = messages[index].tool_call_id
        if not call_id:
            text = "(tool) has no tool_call_id, but the message before it makes several calls"
            return MessageProblem(index, "tool_call_id", text)
        if call_id not in numbers:
            text = f"(tool) answers {call_id!r}, which is no call of the message before it"
            return MessageProblem(index, "tool_call_id", text)
        if call_id in answered:
            return MessageProblem(index, "tool_call_id", f"(tool) answers the call {call_id!r} a second time")
        answered.add(call_id)
    unanswered = [number for call_id, number in numbers.items() if call_id not in answered]
    return _missing_result(messages, position, end, unanswered[0]) if unanswered else None


def _missing_result(messages: Sequence[ChatMessage], position: int, end: int, number: int) -> MessageProblem:
    """The problem that call `number` of `messages[position]` has no result before `messages[end]`."""
    call = messages[position].tool_calls[number]
    name = f"{call.function.name!r}" + (f" (id {call.id!r})" if call.id else "")
    if end == len(messages):
        return MessageProblem(position, "tool_calls", f"calls {name}, but no result follows")
    return MessageProblem(end, "", f"({messages[end].role}) comes before the result of the call of {name}")
