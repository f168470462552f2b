"""Whole datasets of chats: one validated pass over all rows, with a fingerprint of their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from tuneyard.chats.formats import DatasetFormat
from tuneyard.chats.messages import ChatExample
from tuneyard.chats.row_reader import ChatRowReader, RowProblem
from tuneyard.core.errors import DatasetError
from tuneyard.core.wording import count_of, listed

MAX_SHOWN_PROBLEMS = 20


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

    Iterate once, to the end; then `rows` is their number and `fingerprint` the SHA-256 of their content.
    """

    def __init__(self, location: str, dataset_format: DatasetFormat | None = None) -> None:
        self._reader = ChatRowReader(str(location), dataset_format)
        self._digest = hashlib.sha256()
        self.rows = 0

    @property
    def format(self) -> DatasetFormat | None:
        """The given format; without one, the format of the first readable row."""
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
        for row in self._reader:
            if isinstance(row, RowProblem):
                broken += 1
                shown += [str(row)] if broken <= MAX_SHOWN_PROBLEMS else []
            else:
                self.rows += 1
                self._digest.update(content_bytes(row) + b"\n")
                yield row
        if broken:
            raise DatasetError(f"{self._reader.location}: {count_of(broken, 'broken row')}\n{listed(shown, broken)}")
        if not self.rows:
            raise no_rows_error(self._reader.location)


def no_rows_error(location: str) -> DatasetError:
    """The error for a dataset without rows."""
    return DatasetError(f"{location}: the dataset has no rows. Expected one JSON object with `messages` per line.")


def load_chat_dataset(location: str, dataset_format: DatasetFormat | None = None) -> ChatDataset:
    """All examples of a dataset, in memory. `location` is any that raw_rows reads; None detects the format.

    Raises DatasetError as DatasetScan does.
    """
    scan = DatasetScan(location, dataset_format)
    examples = list(scan)
    assert scan.format is not None
    return ChatDataset(str(location), scan.format, examples, scan.fingerprint)


def content_bytes(example: ChatExample) -> bytes:
    """The example as canonical JSON, without `source` and `metadata`. Fingerprints are built from it."""
    row = example.model_dump(mode="json", exclude={"source", "metadata"}, exclude_defaults=True)
    return json.dumps(row, sort_keys=True, ensure_ascii=False).encode(errors="surrogatepass")
