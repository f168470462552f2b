"""Requests and answers of /v1/evals. Source: OpenAI API reference, evals."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field

from tuneyard.api.wire.base import RequestModel, WireModel
from tuneyard.api.wire.platform_api.graders import (
    Grader,
    TextSimilarityGrader,
    check_grader_fields,
    check_grader_type,
)
from tuneyard.api.wire.platform_api.lists import PageQuery
from tuneyard.api.wire.platform_api.metadata import Metadata
from tuneyard.api.wire.responses.union_tags import require_objects
from tuneyard.core.errors import RequestError

MAX_CRITERIA = 64
Name = Annotated[str, Field(max_length=256, pattern=r"^[^\x00]*$")]


class DataSourceConfig(RequestModel):
    """What the rows of the eval's runs are: objects that satisfy `item_schema`."""

    type: Literal["custom"]
    item_schema: dict[str, Any]
    include_sample_schema: bool = False
    """Whether the graders may use the namespace `sample`: the answer of a model, or the row's own `sample`."""


class CreateEvalRequest(RequestModel):
    """Body of POST /v1/evals."""

    name: Name | None = None
    metadata: Metadata | None = None
    data_source_config: DataSourceConfig
    testing_criteria: list[Grader] = Field(min_length=1, max_length=MAX_CRITERIA)

    @classmethod
    def parse(cls, body: Any) -> Self:
        """See WireModel.parse. Kinds of data sources and graders that this server lacks are refused by name."""
        if isinstance(body, dict):
            _check_source_type(body.get("data_source_config"))
            if body.get("testing_criteria") is not None:
                for number, grader in enumerate(require_objects(body["testing_criteria"], "testing_criteria")):
                    check_grader_type(grader, f"testing_criteria.{number}")
        return super().parse(body)

    def check(self) -> None:
        for number, grader in enumerate(self.testing_criteria):
            param = f"testing_criteria.{number}"
            check_grader_fields(grader, param)
            if isinstance(grader, TextSimilarityGrader) and grader.pass_threshold is None:
                name = f"{param}.pass_threshold"
                raise RequestError(
                    f"Missing required parameter: {name!r}.", param=name, code="missing_required_parameter"
                )


class UpdateEvalRequest(RequestModel):
    """Body of POST /v1/evals/{eval_id}."""

    name: Name | None = None
    metadata: Metadata | None = None


class EvalQuery(PageQuery):
    """Query parameters of GET /v1/evals."""

    order: Literal["asc", "desc"] = "asc"
    order_by: Literal["created_at", "updated_at"] = "created_at"


class EvalObject(WireModel):
    """An eval. `data_source_config.schema` is that of a row: an object with `item`, and `sample` if graders use it."""

    object: Literal["eval"] = "eval"
    id: str
    data_source_config: dict[str, Any]
    testing_criteria: list[dict[str, Any]]
    """As in the request, each with an `id` that its results have as name."""
    name: str
    created_at: int
    metadata: dict[str, str]


class DeletedEval(WireModel):
    """Answer of DELETE /v1/evals/{eval_id}."""

    object: Literal["eval.deleted"] = "eval.deleted"
    deleted: bool = True
    eval_id: str


def _check_source_type(config: Any) -> None:
    """Raises RequestError for OpenAI's data sources that read a log of chat completions."""
    kind = config.get("type") if isinstance(config, dict) else None
    if kind in ("logs", "stored_completions"):
        raise RequestError(
            f"The data source {kind!r} is not supported by this server: it keeps no log of chat completions. Upload "
            "the rows as a file with the purpose 'evals', and use the data source 'custom'.",
            param="data_source_config.type",
            code="unsupported",
        )
