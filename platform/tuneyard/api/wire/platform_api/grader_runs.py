"""Requests and answers of /v1/fine_tuning/alpha/graders. Source: OpenAI API reference, graders."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field

from tuneyard.api.wire.base import RequestModel, WireModel
from tuneyard.api.wire.platform_api.graders import Grader, check_grader_fields, check_grader_type


class ValidateGraderRequest(RequestModel):
    """Body of POST /v1/fine_tuning/alpha/graders/validate."""

    grader: Grader

    @classmethod
    def parse(cls, body: Any) -> Self:
        """See WireModel.parse. Kinds of graders that this server lacks are refused by name."""
        if isinstance(body, dict) and body.get("grader") is not None:
            check_grader_type(body["grader"], "grader")
        return super().parse(body)

    def check(self) -> None:
        check_grader_fields(self.grader, "grader")


class RunGraderRequest(ValidateGraderRequest):
    """Body of POST /v1/fine_tuning/alpha/graders/run."""

    model_sample: str
    """The namespace `sample`: its output_text, and output_json if it is JSON."""
    item: dict[str, Any] = Field(default_factory=dict)
    """The namespace `item`."""


class ValidatedGrader(WireModel):
    """Answer of …/validate."""

    grader: dict[str, Any]


class GraderErrors(WireModel):
    """What went wrong; OpenAI's fields. Fields that begin with `python` are always false: there is no such grader."""

    formula_parse_error: bool = False
    sample_parse_error: bool = False
    truncated_observation_error: bool = False
    unresponsive_reward_error: bool = False
    invalid_variable_error: bool = False
    other_error: bool = False
    python_grader_server_error: bool = False
    python_grader_server_error_type: str | None = None
    python_grader_runtime_error: bool = False
    python_grader_runtime_error_details: str | None = None
    model_grader_server_error: bool = False
    model_grader_refusal_error: bool = False
    model_grader_parse_error: bool = False
    model_grader_server_error_details: str | None = None


class GraderMetadata(WireModel):
    """How the reward came about. `execution_time` is in seconds."""

    name: str
    type: str
    errors: GraderErrors
    execution_time: float
    scores: dict[str, float]
    token_usage: int | None
    """Tokens of all grading models together."""
    sampled_model_name: str | None


class GraderRun(WireModel):
    """Answer of …/run. `sub_rewards`: the scores of a multi grader's graders."""

    reward: float
    metadata: GraderMetadata
    sub_rewards: dict[str, float]
    model_grader_token_usage_per_model: dict[str, dict[str, int]]
