"""Checks of a new run that need more than its request: its eval, its file, and the models that it asks."""

from __future__ import annotations

from serve_apps.platform_app.context import PlatformContext
from serve_apps.platform_app.evals.criteria import grading_models, read_criteria
from tuneyard.api.wire.platform_api.eval_runs import CreateRunRequest, FileId, JsonlDataSource
from tuneyard.api.wire.platform_api.evals import EvalObject
from tuneyard.core.errors import ModelNotFoundError, RequestError

PURPOSE = "evals"
"""Purpose of files whose rows a run may read."""


async def check_run(content: CreateRunRequest, parent: EvalObject, context: PlatformContext, owner: str) -> None:
    """Raises RequestError for a model that the owner may not use or that is not served, and for a file that is missing
    or no data."""
    source = content.data_source
    if isinstance(source.source, FileId):
        record = await context.files.find(owner, source.source.id)
        if record.purpose != PURPOSE:
            raise RequestError(
                f"The file {record.id} has the purpose {record.purpose!r}; upload the rows with the purpose "
                f"{PURPOSE!r}.",
                param="data_source.source.id",
                code="invalid_value",
            )
    if not isinstance(source, JsonlDataSource):
        await _check_model(context, owner, source.model, "data_source.model", "")
    for model, grader in grading_models([g for _, g in read_criteria(parent.testing_criteria)]).items():
        await _check_model(context, owner, model, None, f"The grader {grader!r}: ")


async def _check_model(context: PlatformContext, owner: str, model: str, param: str | None, place: str) -> None:
    try:
        await context.calls.find(owner, model)
    except ModelNotFoundError as e:
        raise ModelNotFoundError(f"{place}{e.message}", param=param, code=e.code) from e
