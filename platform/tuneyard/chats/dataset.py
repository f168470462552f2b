"""Whole datasets of chats: one validated pass over all rows, with a fingerprint of their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterator
from dataclasses import dataclass
from json.encoder import encode_basestring

from tuneyard.chats.messages import ChatExample
from tuneyard.chats.row_formats.names import DatasetFormat
from tuneyard.chats.row_reader import ChatRowReader
from tuneyard.chats.row_settings import RowSettings
from tuneyard.core.errors import DatasetError
from tuneyard.core.wording import count_of, listed

_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False)

MAX_SHOWN_PROBLEMS = 20
"""Problems that an error message lists."""


@dataclass(frozen=True, slots=True)
class ChatDataset:
    """The examples of a dataset, in its order.

    `fingerprint` is the SHA-256 of the examples' content; formatting and file type do not change it.
    """

    location: str
    format: DatasetFormat
    examples: list[ChatExample]
    fingerprint: str


class DatasetScan:
    """One pass over the examples of a dataset, in bounded memory.

    Iterate once, to the end; then `rows` is their number and `fingerprint` the SHA-256 of their content. Rows whose
    numbers, from 0, are in `dropped` are left out, and so are those that the settings drop.
    """

    def __init__(self, location: str, settings: RowSettings | None = None, dropped: Container[int] = ()) -> None:
        self._reader = ChatRowReader(str(location), settings)
        self._dropped = dropped
        self._digest = hashlib.sha256()
        self.rows = 0

    @property
    def format(self) -> DatasetFormat | None:
        """The format of the settings; without one, the format of the first readable row."""
        return self._reader.format

    @property
    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, of the content read so far."""
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[ChatExample]:
        """Yields every valid example.

        Raises DatasetError at the end if any row is broken: it lists the first MAX_SHOWN_PROBLEMS as `file:line` with
        what was found and the fix. Raises DatasetError if there are no rows.
        """
        broken = 0
        shown: list[str] = []
        for number, row in enumerate(self._reader):
            if number in self._dropped:
                continue
            severities = [self._reader.settings.severity_of(problem.kind) for problem in row.problems]
            if "drop" in severities:
                continue
            if "error" in severities:
                broken += 1
                if broken <= MAX_SHOWN_PROBLEMS:
                    shown.append(str(row.problems[severities.index("error")]))
            elif row.example is not None:
                self.rows += 1
                self._digest.update(content_bytes(row.example) + b"\n")
                yield row.example
        if broken:
            raise DatasetError(f"{self._reader.location}: {count_of(broken, 'broken row')}\n{listed(shown, broken)}")
        if not self.rows:
            raise no_rows_error(self._reader.location)


def no_rows_error(location: str) -> DatasetError:
    """The error for a dataset without rows."""
    return DatasetError(f"{location}: the dataset has no rows. Expected one JSON object with `messages` per line.")


def load_chat_dataset(location: str, settings: RowSettings | None = None) -> ChatDataset:
    """All examples of a dataset, in memory. `location` is any that raw_rows reads; None detects the format.

    Raises DatasetError as DatasetScan does.
    """
    scan = DatasetScan(location, settings)
    examples = list(scan)
    assert scan.format is not None
    return ChatDataset(str(location), scan.format, examples, scan.fingerprint)


def content_bytes(example: ChatExample) -> bytes:
    """The example as canonical JSON, without `source` and `metadata`. Fingerprints are built from it."""
    plain = _plain_content(example)
    if plain is None:
        row = example.model_dump(mode="json", exclude={"source", "metadata"}, exclude_defaults=True)
        plain = _ENCODER.encode(row)
    return plain.encode(errors="surrogatepass")


def _plain_content(example: ChatExample) -> str | None:
    """The canonical JSON of an example that has only texts, at a third of the time; None for any other."""
    if example.tools or example.rejected is not None:
        return None
    parts = []
    for message in example.messages:
        if message.tool_calls or message.tool_call_id is not None or message.weight is not None:
            return None
        fields = f'"content": {encode_basestring(message.content)}, ' if message.content else ""
        if message.reasoning_content is not None:
            fields += f'"reasoning_content": {encode_basestring(message.reasoning_content)}, '
        parts.append(f'{{{fields}"role": "{message.role}"}}')
    return f'{{"messages": [{", ".join(parts)}]}}'
