"""Finds rows that contradict an earlier one: another answer to its question, or its two answers in the other order."""

from __future__ import annotations

from typing import Any

from tuneyard.chats.messages import ChatExample, ChatMessage
from tuneyard.chats.row_problems import RowProblem
from tuneyard.training_data.earlier_rows import HashTable, row_number, table_key

_ANSWER_BITS = 24
_ANSWER_MASK = (1 << _ANSWER_BITS) - 1
_NUMBER_MASK = (1 << 64 - _ANSWER_BITS) - 1


class ConflictFinder:
    """Compares the last answer of each row with the first answer to the same question, in tens of bytes per row."""

    def __init__(self) -> None:
        self._seen = HashTable()
        """Hash of the question -> the row's number and the hash of its answer, packed into one int."""

    def find_problem(self, example: ChatExample) -> RowProblem | None:
        """The problem of a row whose question has another answer in an earlier row.

        The question is everything before the last assistant message, and the names of the tools. Reasoning does not
        count. Of a preference pair the two answers, whichever is preferred, belong to the question: many pairs may
        compare different answers to one prompt.
        """
        question: list[Any] = []
        for message in example.messages[:-1]:
            question += (message.role, message.content)
            if message.tool_calls:
                question.append((str(message.tool_calls),))
        if example.tools:
            question.append(tuple([tool.function.name for tool in example.tools]))
        hashes = [_hash_of(message) for message in example.answers]
        if example.rejected is not None:
            question.append(frozenset(hashes))
        answer_hash = hashes[0] & _ANSWER_MASK
        value = (row_number(example.source) & _NUMBER_MASK) << _ANSWER_BITS | answer_hash
        seen = self._seen.get_or_add(table_key(tuple(question)), value)
        if seen is None or seen & _ANSWER_MASK == answer_hash:
            return None
        earlier = f"row or line {seen >> _ANSWER_BITS}"
        text = (
            f"the same question has another answer in {earlier}. Keep the right one, unless several answers are "
            "intended."
            if example.rejected is None
            else f"{earlier} prefers the other one of the same two answers to this prompt. Keep the right row."
        )
        return RowProblem(example.source, "conflicting_answers", text)


def _hash_of(answer: ChatMessage) -> int:
    calls = str([call.function for call in answer.tool_calls]) if answer.tool_calls else ""
    return hash((answer.content, calls))
