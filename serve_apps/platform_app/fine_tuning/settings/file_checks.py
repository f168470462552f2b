"""Checks the files of a job by the library's own rules, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from serve_apps.platform_app.fine_tuning.settings.bases import Base
from serve_apps.platform_app.fine_tuning.settings.run_config import row_settings
from serve_apps.processes.worker_pool import WorkerLimitError, WorkerPool
from tuneyard.chats.row_formats.names import PAIR_FORMATS, DatasetFormat
from tuneyard.chats.row_settings import RowSettings
from tuneyard.core.errors import DatasetError
from tuneyard.core.wording import count_of, listed
from tuneyard.harmony.settings import CodecSettings
from tuneyard.storage.location import is_uri

MAX_SHOWN_PROBLEMS = 10
CPU_LIMIT_S = 3600.0
"""CPU seconds that the check of a job's files may take."""

MEMORY_LIMIT_BYTES = 4 * 2**30
"""Memory that it may take, whatever is in the files."""


@dataclass(frozen=True, slots=True)
class FileToCheck:
    """A file, what OpenAI calls it, and its id, which replaces its location in messages."""

    param: str
    file_id: str
    location: str


@dataclass(frozen=True, slots=True)
class FileCheck:
    """What to check: the files, the training file first, and how their rows are read.

    Lengths are checked, against `max_length` tokens, if `tokenizer_folder` is given.
    """

    files: tuple[FileToCheck, ...]
    settings: RowSettings
    max_length: int
    codec: CodecSettings
    tokenizer_folder: Path | None


@dataclass(frozen=True, slots=True)
class FileReport:
    """What was found. `param` is the file at fault, and `problem` what is wrong with it; None and "" if nothing is.

    `instructions` is the system message that all training chats begin with; None if they differ.
    """

    rows: int
    param: str | None = None
    problem: str = ""
    instructions: str | None = None


class FileChecker(Protocol):
    """Checks files without blocking the event loop."""

    async def check(self, request: FileCheck) -> FileReport:
        """What was found. Raises EngineError if the check itself could not run."""

    def close(self) -> None:
        """Ends a running check."""


class ProcessFileChecker:
    """Checks one job's files at a time, in a process with limits of time and memory."""

    def __init__(self) -> None:
        self._pool: WorkerPool | None = None

    async def check(self, request: FileCheck) -> FileReport:
        """See FileChecker."""
        if self._pool is None:
            job = f"{__name__}:{create_check.__name__}"
            self._pool = WorkerPool(job, memory_bytes=MEMORY_LIMIT_BYTES, max_waiting=10_000)
        try:
            report: FileReport = await self._pool.call(request, CPU_LIMIT_S)
        except WorkerLimitError as e:
            file = request.files[0]
            return FileReport(0, file.param, f"{file.file_id}: the file cannot be checked. {e}")
        return report

    def close(self) -> None:
        """See FileChecker."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def file_check(base: Base, files: Sequence[FileToCheck], *, is_dpo: bool) -> FileCheck:
    """The check of the files of a job on a base."""
    template = base.template
    # Rows that are too long are left out of the run, or refuse it; for the latter they are looked for now.
    is_refused = template.data.too_long == "error" and not is_uri(template.model.base)
    return FileCheck(
        files=tuple(files),
        settings=row_settings(base, is_dpo=is_dpo),
        max_length=template.data.max_length,
        codec=template.codec,
        tokenizer_folder=Path(template.model.base) if is_refused else None,
    )


def create_check() -> Callable[[FileCheck], FileReport]:
    """Called in the worker process: the function that checks."""
    return check_files


def check_files(request: FileCheck) -> FileReport:
    """Reads all rows of all files. The report has the training file's rows, and the first file with errors."""
    from tuneyard.harmony.codec import HarmonyCodec
    from tuneyard.training_data.dataset_review import DatasetReview
    from tuneyard.training_data.row_checks import RowChecker

    codec = None
    if request.tokenizer_folder is not None:
        codec = HarmonyCodec.from_checkpoint(request.tokenizer_folder, request.codec)
    checker = RowChecker(codec, request.max_length if codec is not None else None)
    rows, instructions = 0, None
    for place, file in enumerate(request.files):
        review = DatasetReview(file.location, request.settings, checker, is_heldout=place > 0)
        problems: list[str] = []
        try:
            for row in review:
                for problem, severity in row.problems:
                    if severity == "error" and len(problems) < MAX_SHOWN_PROBLEMS:
                        problems.append(str(problem))
        except DatasetError as e:
            return FileReport(rows, file.param, _without_location(str(e), file))
        if (other := _other_method(review.reader.format, request.settings)) is not None:
            return FileReport(rows, file.param, f"{file.file_id}: {other}")
        if total := review.counts.total("error"):
            text = f"{file.file_id}: {count_of(total, 'error')}\n{listed(problems, total)}"
            return FileReport(rows, file.param, _without_location(text, file))
        if not review.rows:
            return FileReport(rows, file.param, f"{file.file_id}: no row is left to train on.")
        if place == 0:
            rows, instructions = review.rows, review.instructions.text
    return FileReport(rows, instructions=instructions)


def _other_method(found: DatasetFormat | None, settings: RowSettings) -> str | None:
    """What to say of a file whose rows are for the other method; None if they are not."""
    if found is None or (found in PAIR_FORMATS) == (settings.preference == "pairs"):
        return None
    if found in PAIR_FORMATS:
        # A base may train on one answer of each pair.
        text = "the rows are preference pairs, and the method 'supervised' trains on chats. Use the method 'dpo'."
        return text if settings.preference is None else None
    return "the rows are no preference pairs, which the method 'dpo' trains on. Use the method 'supervised'."


def _without_location(text: str, file: FileToCheck) -> str:
    """The text with the file's id in place of its location, which is the cluster's and not the client's."""
    name = file.location.partition("?")[0].rpartition("/")[2]
    return text.replace(file.location, file.file_id).replace(name, file.file_id)
