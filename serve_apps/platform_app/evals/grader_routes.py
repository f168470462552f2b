"""The routes of /v1/fine_tuning/alpha/graders: a grader checked, or tried on one answer."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from serve_apps.api.openapi_document import ERRORS
from serve_apps.http_front.admission import authorization_header
from serve_apps.http_front.bodies import read_json
from serve_apps.keys.key_gate import KeyGate
from serve_apps.platform_app.context import PlatformContext
from serve_apps.platform_app.evals.grading.grade import Grade, grade
from serve_apps.platform_app.evals.grading.model_calls import Completion, ModelCaller
from tuneyard.api.wire.platform_api.grader_runs import (
    GraderErrors,
    GraderMetadata,
    GraderRun,
    RunGraderRequest,
    ValidatedGrader,
    ValidateGraderRequest,
)
from tuneyard.core.errors import EvaluationError
from tuneyard.evaluation.samples import Sample


def add_grader_routes(api: FastAPI, context: PlatformContext, gate: KeyGate) -> None:
    """Adds the routes. Running a grader counts as one request of its key."""

    @api.post("/v1/fine_tuning/alpha/graders/validate", response_model=ValidatedGrader, responses=ERRORS)
    async def validate_grader(request: Request) -> Response:
        context.owner_of(request)
        content = ValidateGraderRequest.parse(await read_json(request, context.http.limits))
        return JSONResponse({"grader": content.grader.model_dump(exclude_none=True)})

    @api.post("/v1/fine_tuning/alpha/graders/run", response_model=GraderRun, responses=ERRORS)
    async def run_grader(request: Request) -> Response:
        grant = await gate.admit(authorization_header(request))
        try:
            content = RunGraderRequest.parse(await read_json(request, context.http.limits))
            models = ModelCaller(context.calls, grant.owner, is_background=False)
            return JSONResponse((await _run(content, models)).model_dump())
        finally:
            await grant.close()


async def _run(content: RunGraderRequest, models: ModelCaller) -> GraderRun:
    """The grader's reward for the sample; 0 and the kind of error if it has none."""
    started_at = time.monotonic()
    values = {"item": content.item, "sample": Sample(content.model_sample).variables()}
    errors = GraderErrors()
    try:
        given = await grade(content.grader, values, models)
    except EvaluationError as e:
        given, errors = Grade(0.0, passed=False), _errors_of(e)
    metadata = GraderMetadata(
        name=content.grader.name,
        type=content.grader.type,
        errors=errors,
        execution_time=time.monotonic() - started_at,
        scores=dict(given.sub_scores),
        token_usage=sum(completion.usage["total_tokens"] for completion in models.completions) or None,
        sampled_model_name=str(models.completions[0].content["model"]) if models.completions else None,
    )
    return GraderRun(
        reward=given.score,
        metadata=metadata,
        sub_rewards=dict(given.sub_scores),
        model_grader_token_usage_per_model=_usage_per_model(models.completions),
    )


def _usage_per_model(completions: Sequence[Completion]) -> dict[str, dict[str, int]]:
    usage: dict[str, dict[str, int]] = {}
    for completion in completions:
        total = usage.setdefault(str(completion.content["model"]), dict.fromkeys(completion.usage, 0))
        for name, tokens in completion.usage.items():
            total[name] += tokens
    return usage


def _errors_of(error: EvaluationError) -> GraderErrors:
    return GraderErrors(
        invalid_variable_error=error.kind == "variable",
        formula_parse_error=error.kind == "formula",
        model_grader_parse_error=error.kind == "answer",
        model_grader_server_error=error.kind == "model",
        model_grader_server_error_details=error.message if error.kind == "model" else None,
        other_error=error.kind == "other",
    )
