"""Dataset rows as validated ChatExamples, or as problems with their place and the fix, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from tuneyard.chats.converters import FormatProblem
from tuneyard.chats.formats import FORMATS, DatasetFormat, detect_format, to_openai_row
from tuneyard.chats.messages import ChatExample
from tuneyard.chats.raw_rows import read_raw_rows
from tuneyard.chats.readers.raw_row import RawRow
from tuneyard.chats.validation import (
    find_call_problems,
    find_declaration_problems,
    find_field_problems,
    find_order_problem,
)
from tuneyard.core.wording import short_repr


@dataclass(frozen=True, slots=True)
class RowProblem:
    """A problem of one row: its place (`where`), its kind for statistics, and a sentence with the fix (`text`)."""

    where: str
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


class ChatRowReader:
    """Iterates over a dataset and yields a ChatExample or a RowProblem for each row, in order.

    `location` is any that raw_rows reads. `format` is `dataset_format`; if that is None, the format of the first
    readable row.
    """

    def __init__(self, location: str, dataset_format: DatasetFormat | None = None) -> None:
        self.location = location
        self.format = dataset_format

    def __iter__(self) -> Iterator[ChatExample | RowProblem]:
        """Raises DatasetError if the location holds no dataset."""
        for raw in read_raw_rows(self.location):
            yield self._parse(raw)

    def _parse(self, raw: RawRow) -> ChatExample | RowProblem:
        if raw.problem is not None:
            return RowProblem(raw.where, "unreadable", raw.problem)
        if self.format is None:
            self.format = detect_format(raw.value)
        if self.format is None:
            known = "; ".join(f"{name}: {', '.join(keys)}" for name, (_, keys) in FORMATS.items())
            text = f"expected an object with a list `messages`, or the keys of another format ({known}), found "
            return RowProblem(raw.where, "unknown format", text + f"{short_repr(raw.value)}.")
        return parse_chat_row(raw.value, raw.where, self.format)


def parse_chat_row(row: Any, where: str, dataset_format: DatasetFormat) -> ChatExample | RowProblem:
    """One row as a ChatExample, or its first problem."""
    try:
        converted = to_openai_row(row, dataset_format)
        example = ChatExample.model_validate(converted | {"source": where})
    except FormatProblem as e:
        return RowProblem(where, "not the format", f"{e}.")
    except ValidationError as e:
        first = e.errors()[0]
        field = ".".join(str(key) for key in first["loc"])
        return RowProblem(where, "wrong field", f"{field}: {first['msg']} (found {short_repr(first['input'])}).")
    return _find_problem(example) or example


def _find_problem(example: ChatExample) -> RowProblem | None:
    """The first rule that the example breaks."""
    where, messages = example.source, example.messages
    roles = [message.role for message in messages]
    if roles and "assistant" not in roles:
        return RowProblem(
            where,
            "no assistant turn",
            "the chat has no assistant message to train on: "
            f"the last message has role {roles[-1]!r}, it must be 'assistant'.",
        )
    if order_problem := find_order_problem(roles):
        expected = "Expected an optional system message, then user and assistant in turn, tool results after calls."
        return RowProblem(where, "role order", f"{order_problem}. {expected}")
    for number, message in enumerate(messages, start=1):
        if not message.content.strip() and not message.tool_calls and message.role != "tool":
            return RowProblem(where, "empty content", f"message {number} ({message.role}) has empty content.")
    problems = (
        *(("wrong field", problem) for problem in find_field_problems(messages)),
        *(("tool calls", problem) for problem in find_call_problems(messages)),
        *(("tool calls", problem) for problem in find_declaration_problems(messages, example.tools)),
    )
    for kind, problem in problems:
        return RowProblem(where, kind, f"message {problem.position + 1} {problem.text}.")
    return None
