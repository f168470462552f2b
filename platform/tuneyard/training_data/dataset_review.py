"""DatasetReview: one pass over a dataset that checks every row, decides about it, and counts what was found."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tuneyard.chats.dataset import content_bytes, no_rows_error
from tuneyard.chats.instructions import SharedInstructions
from tuneyard.chats.messages import ChatExample
from tuneyard.chats.row_problems import RowProblem, Severity
from tuneyard.chats.row_reader import ChatRowReader, ReadRow
from tuneyard.chats.row_settings import RowSettings
from tuneyard.core.errors import DatasetError
from tuneyard.harmony.loss_mask import is_trained_turn
from tuneyard.training_data.row_checks import RowChecker


@dataclass(slots=True)
class ProblemCounts:
    """How many problems of each kind were found, by severity; and how many rows each kind dropped.

    Ignored problems are not counted.
    """

    by_severity: dict[Severity, Counter[str]] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, severity: Severity) -> None:
        """Counts one problem."""
        self.by_severity.setdefault(severity, Counter())[kind] += 1

    def of(self, *severities: Severity) -> Counter[str]:
        """The number of problems of these severities by kind."""
        return sum((self.by_severity.get(severity, Counter()) for severity in severities), Counter())

    def total(self, *severities: Severity) -> int:
        """The number of problems of these severities."""
        return sum(self.of(*severities).values())


class ReviewedRow(NamedTuple):
    """A row after all checks: its chat if it is trained on, and the problems to report with their severities."""

    where: str
    example: ChatExample | None
    problems: tuple[tuple[RowProblem, Severity], ...]


class DatasetReview:
    """One pass over the rows of a dataset, in bounded memory.

    Iterate once, to the end. Then `rows` is the number of chats to train on, `counts` what was found, `dropped` the
    numbers of the rows left out (from 0, for DatasetScan), `fingerprint` the SHA-256 of the chats' content, and
    `instructions` the system message that they share.
    """

    def __init__(
        self,
        location: str,
        settings: RowSettings,
        checker: RowChecker,
        *,
        is_heldout: bool = False,
        accepts_pairs: bool = False,
    ) -> None:
        """`checker` remembers the rows that it saw: review the training data before the held-out data.

        `accepts_pairs` is ChatRowReader's.
        """
        self.reader = ChatRowReader(location, settings, accepts_pairs=accepts_pairs)
        self.counts = ProblemCounts()
        self.rows = 0
        self.rows_read = 0
        self.instructions = SharedInstructions()
        self._checker = checker
        self._is_heldout = is_heldout
        self._digest = hashlib.sha256()
        self._dropped = array("Q")
        self._trained_rows = 0

    @property
    def dropped(self) -> frozenset[int]:
        """The numbers of the rows left out, from 0."""
        return frozenset(self._dropped)

    @property
    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, of the chats read so far."""
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[ReviewedRow]:
        """Yields every row. Raises DatasetError if there are none, or if all of them are dropped.

        A row with an error has no example, so that only chats that will be trained on have one.
        """
        for row in self.reader:
            yield self._review(row)
            self.rows_read += 1
        location = self.reader.location
        if not self.rows_read:
            raise no_rows_error(location)
        if len(self._dropped) == self.rows_read:
            kinds = ", ".join(f"{count:,} × {kind}" for kind, count in self.counts.dropped.most_common())
            raise DatasetError(f"{location}: every row was left out: {kinds}. Change data.problems or data.preference.")
        if self.rows and not self._trained_rows:
            text = (
                "no row has an assistant message with loss, so there is nothing to learn: every weight is 0. "
                "Correct the weights."
            )
            self.counts.add("nothing_to_learn", "error")
            yield ReviewedRow(location, None, ((RowProblem(location, "nothing_to_learn", text), "error"),))

    def _review(self, row: ReadRow) -> ReviewedRow:
        severity_of = self.reader.settings.severity_of
        problems = row.problems
        content = b""
        is_dropped = bool(problems) and any(severity_of(problem.kind) == "drop" for problem in problems)
        if row.example is not None and not is_dropped:
            content = content_bytes(row.example)
            found = self._checker.find_problems(row.example, is_heldout=self._is_heldout, content=content)
            problems = (*problems, *found)
        if not problems:
            return self._keep(row, content, ())
        severities = [severity_of(problem.kind) for problem in problems]
        if "drop" in severities:
            dropping = problems[severities.index("drop")]
            self._dropped.append(self.rows_read)
            self.counts.dropped[dropping.kind] += 1
            return ReviewedRow(row.where, None, ((dropping, "drop"),))
        named = tuple((p, s) for p, s in zip(problems, severities, strict=True) if s != "ignore")
        for problem, severity in named:
            self.counts.add(problem.kind, severity)
        return ReviewedRow(row.where, None, named) if "error" in severities else self._keep(row, content, named)

    def _keep(self, row: ReadRow, content: bytes, problems: tuple[tuple[RowProblem, Severity], ...]) -> ReviewedRow:
        assert row.example is not None
        self.rows += 1
        self.instructions.add(row.example)
        if row.example.rejected is not None:
            self._trained_rows += all(map(is_trained_turn, row.example.answers))
        else:
            self._trained_rows += any(map(is_trained_turn, reversed(row.example.messages)))
        self._digest.update(content + b"\n")
        return ReviewedRow(row.where, row.example, problems)
