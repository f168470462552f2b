"""Dataset rows as validated ChatExamples and their problems, each with its place and the fix, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import ValidationError

from tuneyard.chats.column_mapping import map_columns
from tuneyard.chats.messages import ChatExample
from tuneyard.chats.preference_pairs import join_pair
from tuneyard.chats.raw_rows import read_raw_rows
from tuneyard.chats.readers.raw_row import RawRow
from tuneyard.chats.row_formats.call_fields import identify_calls
from tuneyard.chats.row_formats.chat_row import Finding, FormatProblem
from tuneyard.chats.row_formats.names import FORMATS, PAIR_FORMATS, DatasetFormat
from tuneyard.chats.row_formats.registry import describe_format, detect_format, to_chat_row
from tuneyard.chats.row_problems import RowProblem
from tuneyard.chats.row_settings import RowSettings
from tuneyard.chats.rules.example_problems import find_fatal_problem, find_tool_problems, with_paired_calls
from tuneyard.chats.text_markup import handle_markup
from tuneyard.core.wording import first_of, short_repr

DEFAULT_SETTINGS = RowSettings()


class ReadRow(NamedTuple):
    """A row of a dataset: its place, its chat, and its problems.

    `example` is None if a problem leaves no chat to train on.
    """

    where: str
    example: ChatExample | None
    problems: tuple[RowProblem, ...] = ()


class ChatRowReader:
    """Iterates over a dataset and yields a ReadRow for each row, in order.

    `location` is any that raw_rows reads. `format` is that of the settings; without one, the format of the first
    readable row. `title` is its name in messages. `accepts_pairs` reads a preference dataset as pairs where the
    settings do not say what is trained on.
    """

    def __init__(self, location: str, settings: RowSettings | None = None, *, accepts_pairs: bool = False) -> None:
        self.location = location
        self.settings = settings or DEFAULT_SETTINGS
        self.title = ""
        self._accepts_pairs = accepts_pairs
        self.format = self.settings.format
        if self.format is not None:
            self._set_format(self.format, FORMATS[self.format].title)

    def __iter__(self) -> Iterator[ReadRow]:
        """Raises DatasetError if the location holds no dataset."""
        for raw in read_raw_rows(self.location):
            yield self._parse(raw)

    def _parse(self, raw: RawRow) -> ReadRow:
        if raw.problem is not None:
            return _refused(RowProblem(raw.where, "unreadable", raw.problem))
        if self.format is None:
            self._detect(raw.value)
        if self.format is None:
            formats = "; ".join(f"{name}: {', '.join(known.keys)}" for name, known in FORMATS.items())
            text = (
                f"expected an object with a list `messages`, or the keys of another format, found "
                f"{short_repr(raw.value)}. Map the columns with data.columns. Known formats: {formats}."
            )
            return _refused(RowProblem(raw.where, "unknown_format", text))
        row = parse_chat_row(raw.value, raw.where, self.format, self.settings)
        if not raw.repeated_keys:
            return row
        names = first_of([f"`{key}`" for key in raw.repeated_keys])
        text = f"the row has a key twice in one object: {names}. Only the last value would be used. Remove the other."
        return ReadRow(row.where, row.example, (RowProblem(raw.where, "duplicate_key", text), *row.problems))

    def _detect(self, value: Any) -> None:
        try:
            mapped = map_columns(value, self.settings.columns)
        except FormatProblem:
            mapped = dict.fromkeys(self.settings.columns, "")
        found = detect_format(mapped)
        if found is not None:
            self._set_format(found, describe_format(found, mapped))

    def _set_format(self, name: DatasetFormat, title: str) -> None:
        self.format, self.title = name, title
        if self._accepts_pairs and name in PAIR_FORMATS and self.settings.preference is None:
            self.settings = self.settings.model_copy(update={"preference": "pairs"})


def parse_chat_row(row: Any, where: str, dataset_format: DatasetFormat, settings: RowSettings) -> ReadRow:
    """One row as a chat with its problems; if it is no chat, with the first problem that prevents one.

    With the preference `pairs` it is a pair, or has the problems that prevent one.
    """
    if settings.preference == "pairs":
        return _parse_pair(row, where, dataset_format, settings)
    try:
        chat = to_chat_row(map_columns(row, settings.columns), dataset_format, settings)
        handle_markup(chat, converts=settings.text_markup == "convert")
        identify_calls(chat.messages)
        example = ChatExample.model_validate(
            {"messages": chat.messages, "tools": chat.tools, "metadata": chat.metadata, "source": where}
        )
        return _checked(example, chat.findings)
    except FormatProblem as e:
        return _refused(RowProblem(where, e.kind, f"{e}."))
    except ValidationError as e:
        first = e.errors()[0]
        field = ".".join(str(key) for key in first["loc"])
        text = f"{field}: {first['msg']} (found {short_repr(first['input'])})."
        return _refused(RowProblem(where, "wrong_field", text))
    except RecursionError:
        return _refused(RowProblem(where, "wrong_format", "the row is nested too deeply for a chat row."))


def _parse_pair(row: Any, where: str, dataset_format: DatasetFormat, settings: RowSettings) -> ReadRow:
    if dataset_format not in PAIR_FORMATS:
        text = (
            f"the row is of the format {FORMATS[dataset_format].title}, which has no chosen and rejected answer to one "
            "prompt. Give `chosen` and `rejected`, or `preferred_output` and `non_preferred_output`; or train on chats "
            "with training.objective=supervised."
        )
        return _refused(RowProblem(where, "no_pair", text))
    chosen, rejected = (
        parse_chat_row(row, where, dataset_format, settings.model_copy(update={"preference": half}))
        for half in ("chosen", "rejected")
    )
    example, problems = join_pair(where, chosen[1:], rejected[1:])
    return ReadRow(where, example, problems)


def _checked(unpaired: ChatExample, findings: list[Finding]) -> ReadRow:
    """The example with its problems, or without the example if one of them leaves no chat."""
    example, problem = with_paired_calls(unpaired)
    problem = problem or find_fatal_problem(example)
    where = example.source
    if findings:
        named = dict.fromkeys(RowProblem(where, found.kind, f"{found.text}.", found.group) for found in findings)
    else:
        named = {}
    if problem is not None:
        return ReadRow(where, None, (*named, problem))
    if not named and not example.tools and example.messages[-1].weight is None:
        return ReadRow(where, example)
    return ReadRow(where, example, (*named, *find_tool_problems(example)))


def _refused(problem: RowProblem) -> ReadRow:
    return ReadRow(problem.where, None, (problem,))
