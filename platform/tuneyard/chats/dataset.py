"""Chat files -> validated ChatExamples, every problem with file and line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from tuneyard.chats.formats import FORMATS, DatasetFormat, FormatProblem, detect_format, short_repr, to_openai_row
from tuneyard.chats.messages import ChatExample, call_faults, declaration_faults, field_faults, message_order_problem
from tuneyard.chats.row_reader import RawRow, read_rows
from tuneyard.core.errors import DatasetError

MAX_SHOWN_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class RowProblem:
    """What is wrong with a row: where, of which kind, and in words with the fix."""

    where: str
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@dataclass(frozen=True, slots=True)
class ChatDataset:
    """The examples of a dataset, in its order. `fingerprint` is sha256 over what was read, not over the bytes."""

    location: str
    format: DatasetFormat
    examples: list[ChatExample]
    fingerprint: str


class ChatRowReader:
    """Iterates over a dataset: a ChatExample or a RowProblem per row, in order, one at a time.

    `format` is `dataset_format`, or the one that the first readable row turned out to have.
    """

    def __init__(self, location: str, dataset_format: DatasetFormat | None = None) -> None:
        self.location = location
        self.format = dataset_format

    def __iter__(self) -> Iterator[ChatExample | RowProblem]:
        """Raises DatasetError when the location holds no dataset."""
        for raw in read_rows(self.location):
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


class DatasetScan:
    """One pass over the examples of a dataset, in bounded memory; it must go to the end.

    After it, `rows` counts them and `fingerprint` is sha256 over what was read, not over the bytes.
    """

    def __init__(self, location: str, dataset_format: DatasetFormat | None = None) -> None:
        self._reader = ChatRowReader(str(location), dataset_format)
        self._digest = hashlib.sha256()
        self.rows = 0

    @property
    def format(self) -> DatasetFormat | None:
        """As asked for, or as detected at the first row."""
        return self._reader.format

    @property
    def fingerprint(self) -> str:
        """sha256, hexadecimal."""
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[ChatExample]:
        """Raises DatasetError that lists the first broken rows as `file:line`, what was found and the fix."""
        broken = 0
        named: list[RowProblem] = []
        for row in self._reader:
            if isinstance(row, RowProblem):
                broken += 1
                named += [row] if broken <= MAX_SHOWN_PROBLEMS else []
            else:
                self.rows += 1
                self._digest.update(content_bytes(row) + b"\n")
                yield row
        if broken:
            raise DatasetError(_listed(self._reader.location, broken, named))
        if not self.rows:
            raise no_rows(self._reader.location)


def no_rows(location: str) -> DatasetError:
    """The error for a dataset without rows."""
    return DatasetError(f"{location}: holds no rows. Expected one JSON object with `messages` per line.")


def load_chat_dataset(location: str, dataset_format: DatasetFormat | None = None) -> ChatDataset:
    """The examples of a dataset in any format of chat_formats and any place of row_reader, in memory.

    Raises DatasetError as DatasetScan does.
    """
    scan = DatasetScan(location, dataset_format)
    examples = list(scan)
    assert scan.format is not None
    return ChatDataset(str(location), scan.format, examples, scan.fingerprint)


def parse_chat_row(row: Any, where: str, dataset_format: DatasetFormat) -> ChatExample | RowProblem:
    """One row as a ChatExample, or the first thing that is wrong with it."""
    try:
        converted = to_openai_row(row, dataset_format)
        example = ChatExample.model_validate(converted | {"source": where})
    except FormatProblem as e:
        return RowProblem(where, "not the format", f"{e}.")
    except ValidationError as e:
        first = e.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        return RowProblem(where, "wrong field", f"{field}: {first['msg']} (found {short_repr(first['input'])}).")
    return _problem(example) or example


def _problem(example: ChatExample) -> RowProblem | None:
    where, messages = example.source, example.messages
    roles = [message.role for message in messages]
    if roles and "assistant" not in roles:
        return RowProblem(
            where,
            "no assistant turn",
            f"no assistant turn to learn, the last message has role {roles[-1]!r}, it must be 'assistant'.",
        )
    if problem := message_order_problem(roles, for_completion=False):
        expected = "Expected an optional system message, then user and assistant in turn, tool results after calls."
        return RowProblem(where, "role order", f"{problem}. {expected}")
    for index, message in enumerate(messages, start=1):
        if not message.content.strip() and not message.tool_calls and message.role != "tool":
            return RowProblem(where, "empty content", f"message {index} ({message.role}) has empty content.")
    faults = (
        *(("wrong field", fault) for fault in field_faults(messages)),
        *(("tool calls", fault) for fault in call_faults(messages)),
        *(("tool calls", fault) for fault in declaration_faults(messages, example.tools)),
    )
    for kind, fault in faults:
        return RowProblem(where, kind, f"message {fault.position + 1} {fault.text}.")
    return None


def content_bytes(example: ChatExample) -> bytes:
    """What makes an example what it is, without where it came from; for fingerprints."""
    row = example.model_dump(mode="json", exclude={"source", "metadata"}, exclude_defaults=True)
    return json.dumps(row, sort_keys=True, ensure_ascii=False).encode(errors="surrogatepass")


def _listed(location: str, broken: int, named: list[RowProblem]) -> str:
    head = f"{location}: {broken} broken row{'s' if broken > 1 else ''}"
    rest = [f"… and {broken - len(named)} more"] if broken > len(named) else []
    return "\n  ".join([head, *map(str, named), *rest])
