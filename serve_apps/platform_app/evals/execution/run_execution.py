"""RunExecution: one run from its state in the store to its end. It may be cancelled anywhere, and begun again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from serve_apps.gateway.owner_calls import OwnerCalls
from serve_apps.platform_app.evals.criteria import read_criteria, uses_sample
from serve_apps.platform_app.evals.execution.rows import Row, check_rows, read_rows
from serve_apps.platform_app.evals.execution.run_progress import ActiveRun, RowOutcome, RunProgress, RunWork
from serve_apps.platform_app.evals.grading.grade import grade
from serve_apps.platform_app.evals.grading.model_calls import ModelCaller, RunFailedError
from serve_apps.platform_app.evals.grading.sampling import chat_request, failed_object, sample_object, unsampled_object
from serve_apps.platform_app.files.file_service import FileService
from tuneyard.api.wire.platform_api.eval_runs import (
    CompletionsDataSource,
    DataSource,
    JsonlDataSource,
    ResponsesDataSource,
)
from tuneyard.api.wire.platform_api.graders import AnyGrader
from tuneyard.core.errors import EvaluationError, StorageError, StoreUnavailableError
from tuneyard.evaluation.samples import Sample
from tuneyard.storage.sql.database import SqlDatabase

CONCURRENT_ROWS = 8
"""Rows of one run that are asked and graded at the same time."""

NO_SAMPLE = "sample_failed"
"""`sample.error.code` of a row for which the model gave no answer."""
NO_GRADE = "grader_failed"
"""`error.code` of a result whose grader gave no score."""

_SOURCE: TypeAdapter[JsonlDataSource | CompletionsDataSource | ResponsesDataSource] = TypeAdapter(DataSource)

logger = logging.getLogger(__name__)


class RunExecution:
    """Executes runs. Each row's output item is written once, in one transaction with the run's counts."""

    def __init__(self, database: SqlDatabase, progress: RunProgress, files: FileService, calls: OwnerCalls) -> None:
        self._database = database
        self._progress = progress
        self._files = files
        self._calls = calls

    async def execute(self, run: ActiveRun) -> None:
        """Brings the run to its end, or returns when it has no work left: it was canceled or deleted.

        Raises StoreUnavailableError and StorageError: then it is to be called again.
        """
        try:
            await self._execute(run)
        except RunFailedError as e:
            await self._database.run(self._progress.fail, run.id, e.code, e.message)
        except (StoreUnavailableError, StorageError):
            raise
        except Exception:
            logger.exception("the eval run %s failed", run.id)
            message = "The run failed for a reason that is not its own; the server's log has the cause."
            await self._database.run(self._progress.fail, run.id, "server_error", message)

    async def _execute(self, run: ActiveRun) -> None:
        work = await self._database.run(self._progress.work_of, run)
        if work is None:
            return
        rows = _RunRows(work, self._calls)
        if work.total is None:
            needs_sample = isinstance(rows.source, JsonlDataSource) and uses_sample([g for _, g in rows.criteria])
            total = await check_rows(rows.source, run.owner, self._files, work.row_schema, needs_sample=needs_sample)
            if not await self._database.run(self._progress.begin, run.id, total):
                return
        if await self._process_rows(work, rows):
            await self._database.run(self._progress.complete, run.id)

    async def _process_rows(self, work: RunWork, rows: _RunRows) -> bool:
        """Processes the rows that have no output item yet. Returns whether the run still had work left at the end."""
        run = work.run
        finished = await self._database.run(self._progress.finished_positions, run.id)
        places = asyncio.Semaphore(CONCURRENT_ROWS)
        is_wanted = True

        async def process(row: Row) -> None:
            nonlocal is_wanted
            try:
                outcome = await rows.process(row)
                is_wanted = await self._database.run(self._progress.record, run, outcome) and is_wanted
            finally:
                places.release()

        texts = read_rows(rows.source, run.owner, self._files)
        try:
            async with contextlib.aclosing(texts), asyncio.TaskGroup() as tasks:
                position = -1
                async for text in texts:
                    position += 1
                    if position in finished:
                        continue
                    await places.acquire()
                    if not is_wanted:
                        places.release()
                        break
                    tasks.create_task(process(Row.parse(position, text)))
        except ExceptionGroup as failures:
            # Of several rows that failed at once: what ends the run, before what may pass.
            raise min(failures.exceptions, key=lambda e: not isinstance(e, RunFailedError)) from failures
        return is_wanted


class _RunRows:
    """What becomes of the rows of a run."""

    def __init__(self, work: RunWork, calls: OwnerCalls) -> None:
        self.source = _SOURCE.validate_python(work.data_source)
        self.criteria = read_criteria(work.criteria)
        self._run = work.run
        self._calls = calls

    async def process(self, row: Row) -> RowOutcome:
        """Samples the row if the run asks a model, and grades it. Raises RunFailedError."""
        models = ModelCaller(self._calls, self._run.owner)
        request_id = f"{self._run.id}-{row.position}"
        sample, sample_fields = row.sample, unsampled_object(row.sample)
        if not isinstance(self.source, JsonlDataSource):
            try:
                completion = await models.complete(chat_request(self.source, row.item), request_id)
            except RunFailedError:
                raise
            except EvaluationError as e:
                return RowOutcome(row.position, row.item, failed_object(NO_SAMPLE, e.message), [], is_error=True)
            sample, sample_fields = Sample.from_completion(completion.content).variables(), sample_object(completion)
        values = {"item": row.item, "sample": sample}
        results = [await _grade(criterion, grader, values, models, request_id) for criterion, grader in self.criteria]
        usage = [(str(completion.content["model"]), completion.usage) for completion in models.completions]
        is_error = any("error" in result for result in results)
        return RowOutcome(row.position, row.item, sample_fields, results, is_error, usage)


async def _grade(
    criterion: str, grader: AnyGrader, values: Mapping[str, Any], models: ModelCaller, request_id: str
) -> dict[str, Any]:
    """The result of one criterion, with the error if the grader gave no score. Raises RunFailedError."""
    try:
        return (await grade(grader, values, models, request_id)).result(criterion, grader.type)
    except RunFailedError:
        raise
    except EvaluationError as e:
        failed = {"name": criterion, "type": grader.type, "passed": False, "score": 0.0, "sample": None}
        return failed | {"error": {"code": NO_GRADE, "message": e.message}}
