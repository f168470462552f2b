"""The rows of a run: read from its file or its request, one at a time, and checked before the run begins."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from serve_apps.platform_app.evals.grading.model_calls import RunFailedError
from serve_apps.platform_app.files.file_service import FileService
from serve_apps.processes.worker_pool import WorkerLimitError, WorkerPool
from tuneyard.api.wire.platform_api.eval_runs import DataSource, FileContent
from tuneyard.core.errors import ObjectNotFoundError

MAX_ROWS = 100_000
"""Rows of a run. Each becomes an output item in the database."""

MAX_ROW_BYTES = 4 * 2**20
CHECKED_BYTES = 2**20
"""Rows are checked in groups of about so many bytes."""
CHECK_CPU_S = 5.0
"""Seconds of CPU time to check one group. Rows take microseconds; a schema can be made to take hours."""
CHECK_MEMORY_BYTES = 512 * 2**20

CHECKER = "serve_apps.platform_app.evals.execution.row_checks:create_row_checker"

INVALID_ROWS = "invalid_data_source"
"""`error.code` of a run whose rows are wrong."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its number from 0, its item, and the answer to grade if it has one."""

    position: int
    item: dict[str, Any]
    sample: dict[str, Any] | None

    @classmethod
    def parse(cls, position: int, text: bytes) -> Row:
        """The row in a line that was checked."""
        row = json.loads(text)
        return cls(position, row["item"], row.get("sample"))


async def read_rows(source: DataSource, owner: str, files: FileService) -> AsyncGenerator[bytes, None]:
    """The JSON texts of the rows, in order; empty lines are no rows.

    Raises RunFailedError for a file that is gone, and for too many or too large rows.
    """
    count = 0
    lines = (
        _inline_rows(source.source)
        if isinstance(source.source, FileContent)
        else _file_lines(source.source.id, owner, files)
    )
    async for line in lines:
        if not line.strip():
            continue
        count += 1
        if len(line) > MAX_ROW_BYTES:
            raise _too_long(count)
        if count > MAX_ROWS:
            raise RunFailedError(f"There are more than {MAX_ROWS:,} rows; make several runs of them.", INVALID_ROWS)
        yield line


async def check_rows(
    source: DataSource,
    owner: str,
    files: FileService,
    row_schema: Mapping[str, Any],
    *,
    needs_sample: bool,
    cpu_s: float = CHECK_CPU_S,
) -> int:
    """The number of rows. Raises RunFailedError if one is wrong, if there is none, and if a group of rows takes longer
    than `cpu_s` to check."""
    pool = WorkerPool(CHECKER, (dict(row_schema), needs_sample), memory_bytes=CHECK_MEMORY_BYTES)
    total = size = 0
    group: list[bytes] = []

    async def check_group() -> None:
        first = total - len(group)
        try:
            problem = await pool.call((first, group), cpu_s)
        except WorkerLimitError as e:
            raise RunFailedError(
                f"Checking the rows {first + 1} to {total} against item_schema takes too much {e.limit}. Simplify the "
                "schema: patterns, references and combinations are the usual cause.",
                INVALID_ROWS,
            ) from e
        if problem is not None:
            raise RunFailedError(problem, INVALID_ROWS)

    try:
        async for text in read_rows(source, owner, files):
            group.append(text)
            total, size = total + 1, size + len(text)
            if size >= CHECKED_BYTES:
                await check_group()
                group, size = [], 0
        if group:
            await check_group()
    finally:
        pool.close()
    if total == 0:
        raise RunFailedError('The file has no rows. Each line is a row: {"item": {…}}.', INVALID_ROWS)
    return total


async def _inline_rows(content: FileContent) -> AsyncIterator[bytes]:
    for row in content.content:
        sample = {"sample": row.sample} if row.sample is not None else {}
        yield json.dumps({"item": row.item} | sample).encode()


async def _file_lines(file_id: str, owner: str, files: FileService) -> AsyncIterator[bytes]:
    try:
        record = await files.find(owner, file_id)
    except ObjectNotFoundError as e:
        raise RunFailedError(e.message, INVALID_ROWS) from e
    rest = b""
    async for block in files.blocks(record):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > MAX_ROW_BYTES:
            break  # read_rows refuses it
    yield rest


def _too_long(number: int) -> RunFailedError:
    return RunFailedError(f"Row {number} has more than {MAX_ROW_BYTES:,} bytes.", INVALID_ROWS)
