"""InputValidator: whether all rows of an input file can be a batch, and what is wrong with those that cannot."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from serve_apps.platform_app.batches.input.input_lines import InputLine
from serve_apps.platform_app.batches.input.input_rows import InputRow, RowError, parse_row
from tuneyard.api.wire.platform_api.batches import BatchError
from tuneyard.configs.http_limits import HttpLimits

MAX_ERRORS = 100
"""Errors that are reported. The rest of the file is not read after so many."""


class InputValidator:
    """Feed it the lines of a file in order, until `is_over`; then call `finish`.

    Needs memory for the digests of the custom_ids, and for nothing else of the file.
    """

    def __init__(self, endpoint: str, limits: HttpLimits, max_requests: int) -> None:
        self.model: str | None = None
        """The model that the first row names, and all others."""
        self.first_line: int | None = None
        """The line of the first row."""
        self.total = 0
        """Rows without an error."""
        self._endpoint = endpoint
        self._limits = limits
        self._max_requests = max_requests
        self._errors: list[BatchError] = []
        self._known_ids: set[bytes] = set()
        self._has_too_many = False

    @property
    def is_over(self) -> bool:
        """Whether nothing that follows would change the result."""
        return self._has_too_many or len(self._errors) >= MAX_ERRORS

    def feed(self, lines: Iterable[InputLine]) -> None:
        """Checks the next lines; blank ones are skipped."""
        for line in lines:
            if self.is_over:
                return
            is_full = self.total + len(self._errors) >= self._max_requests and not line.is_blank
            # A file of blank lines only would take minutes to read.
            self._has_too_many = is_full or line.number > 2 * self._max_requests + 1000
            if line.is_blank or self._has_too_many:
                continue
            try:
                self._add(line, parse_row(line, self._endpoint, self._limits))
            except RowError as e:
                self._errors.append(e.error)

    def finish(self) -> list[BatchError]:
        """What is wrong with the file, by line; empty for a valid file."""
        if self._has_too_many:
            return [
                BatchError(
                    code="too_many_requests",
                    message=f"The input file has more than {self._max_requests:,} requests "
                    "(platform.batches.max_requests). Split it into several batches.",
                )
            ]
        if not self.total and not self._errors:
            return [BatchError(code="empty_file", message="The input file has no requests.")]
        return self._errors

    def _add(self, line: InputLine, row: InputRow) -> None:
        digest = hashlib.sha256(row.custom_id.encode()).digest()[:16]
        if digest in self._known_ids:
            raise RowError(
                line,
                "duplicate_custom_id",
                f"The custom_id {row.custom_id!r} was used in a line before. Each request needs one of its own.",
                "custom_id",
            )
        self._known_ids.add(digest)
        if self.model is None:
            self.model, self.first_line = row.model, row.number
        elif row.model != self.model:
            raise RowError(
                line,
                "mismatched_model",
                f"The model {row.model[:200]!r} is not that of the requests before, {self.model[:200]!r}. All requests "
                "of a batch use one model.",
                "body.model",
            )
        self.total += 1
