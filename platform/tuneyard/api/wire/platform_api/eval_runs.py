"""Requests and answers of /v1/evals/{eval_id}/runs. Source: OpenAI API reference, evals."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator

from tuneyard.api.wire.base import RequestModel, WireModel
from tuneyard.api.wire.chat_request import ResponseFormat
from tuneyard.api.wire.effort import RequestedEffort
from tuneyard.api.wire.platform_api.evals import Name
from tuneyard.api.wire.platform_api.grader_messages import TemplateMessage
from tuneyard.api.wire.platform_api.lists import PageQuery
from tuneyard.api.wire.platform_api.metadata import Metadata
from tuneyard.api.wire.responses.text_format import TextConfig
from tuneyard.api.wire.responses.tools import FunctionTool
from tuneyard.api.wire.responses.union_tags import tag_of_type, unsupported_type
from tuneyard.api.wire.tools import RequestTool
from tuneyard.core.errors import RequestError
from tuneyard.evaluation.templates import Variable

RunStatus = Literal["queued", "in_progress", "completed", "canceled", "failed"]
SOURCE_TYPES = ("jsonl", "completions", "responses")
ROW_SOURCES = ("file_id", "file_content")


class SourceRow(RequestModel):
    """A row: the item, and the answer to grade where no model is asked."""

    item: dict[str, Any]
    sample: dict[str, Any] | None = None


class FileContent(RequestModel):
    """Rows in the request itself."""

    type: Literal["file_content"]
    content: list[SourceRow] = Field(min_length=1)


class FileId(RequestModel):
    """An uploaded file with one row per line."""

    type: Literal["file_id"]
    id: Annotated[str, Field(min_length=1, max_length=128)]


RowSource = Annotated[
    Annotated[FileContent, Tag("file_content-type")] | Annotated[FileId, Tag("file_id-type")],
    Discriminator(tag_of_type),
]


class MessagesTemplate(RequestModel):
    """The prompt as messages with variables."""

    type: Literal["template"]
    template: list[TemplateMessage] = Field(min_length=1, max_length=256)


class ItemReference(RequestModel):
    """The prompt as a list of messages in the row."""

    type: Literal["item_reference"]
    item_reference: str

    @field_validator("item_reference")
    @classmethod
    def _check_variable(cls, value: str) -> str:
        variable = Variable.parse(value)
        if variable.namespace != "item" or not variable.path:
            raise ValueError("must name a list of messages in the row, such as item.messages")
        return value


InputMessages = Annotated[
    Annotated[MessagesTemplate, Tag("template-type")] | Annotated[ItemReference, Tag("item_reference-type")],
    Discriminator(tag_of_type),
]


class CommonSampling(RequestModel):
    """How the model is sampled, in both kinds of runs that ask one."""

    max_completion_tokens: int | None = Field(default=None, ge=1)
    """The most tokens to generate, reasoning included."""
    max_completions_tokens: int | None = Field(default=None, ge=1)
    """The same. OpenAI's reference has the other name, its examples this one."""
    reasoning_effort: RequestedEffort | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)

    @property
    def token_limit(self) -> int | None:
        """The most tokens to generate, by either name."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_completions_tokens


class CompletionsSampling(CommonSampling):
    """How the model is sampled, in the fields of chat completions."""

    response_format: ResponseFormat | None = None
    tools: list[RequestTool] | None = Field(default=None, max_length=128)


class ResponsesSampling(CommonSampling):
    """How the model is sampled, in the fields of responses."""

    text: TextConfig | None = None
    tools: list[FunctionTool] | None = Field(default=None, max_length=128)


class JsonlDataSource(RequestModel):
    """Grades rows as they are; asks no model."""

    type: Literal["jsonl"]
    source: RowSource


class SamplingDataSource(RequestModel):
    """What runs have in common that ask a model about each row."""

    source: RowSource
    model: Annotated[str, Field(min_length=1, max_length=256)]
    input_messages: InputMessages


class CompletionsDataSource(SamplingDataSource):
    """Asks a model by chat completions."""

    type: Literal["completions"]
    sampling_params: CompletionsSampling | None = None


class ResponsesDataSource(SamplingDataSource):
    """Asks a model by responses. Each answer is the same as that of a chat completion with the same messages."""

    type: Literal["responses"]
    sampling_params: ResponsesSampling | None = None


DataSource = Annotated[
    Annotated[JsonlDataSource, Tag("jsonl-type")]
    | Annotated[CompletionsDataSource, Tag("completions-type")]
    | Annotated[ResponsesDataSource, Tag("responses-type")],
    Discriminator(tag_of_type),
]


class CreateRunRequest(RequestModel):
    """Body of POST /v1/evals/{eval_id}/runs."""

    name: Name | None = None
    metadata: Metadata | None = None
    data_source: DataSource

    @classmethod
    def parse(cls, body: Any) -> Self:
        """See WireModel.parse. Kinds of data sources that this server lacks are refused by name."""
        source = body.get("data_source") if isinstance(body, dict) else None
        if isinstance(source, dict):
            _check_types(source)
        return super().parse(body)


class RunQuery(PageQuery):
    """Query parameters of GET /v1/evals/{eval_id}/runs."""

    order: Literal["asc", "desc"] = "asc"
    status: RunStatus | None = None


class OutputItemQuery(PageQuery):
    """Query parameters of GET /v1/evals/{eval_id}/runs/{run_id}/output_items."""

    order: Literal["asc", "desc"] = "asc"
    status: Literal["pass", "fail", "failed", "error"] | None = None
    """`failed` is another name of `fail`. `error` is not OpenAI's."""


class EvalError(WireModel):
    """Why a run failed, or a model gave no sample."""

    code: str
    message: str


class ResultCounts(WireModel):
    """Rows by outcome. A row passes if it passes every criterion."""

    total: int = 0
    errored: int = 0
    failed: int = 0
    passed: int = 0


class CriterionResult(WireModel):
    """How many rows pass one criterion; rows without a score are in neither number."""

    testing_criteria: str
    passed: int
    failed: int


class ModelUsage(WireModel):
    """What the run used of one model, as sampled model and as grader."""

    model_name: str
    invocation_count: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int


class EvalRun(WireModel):
    """A run. `report_url` is the run itself: this server has no page for it."""

    object: Literal["eval.run"] = "eval.run"
    id: str
    eval_id: str
    report_url: str
    status: RunStatus
    model: str
    """"" if the run asks no model."""
    name: str
    created_at: int
    result_counts: ResultCounts
    per_model_usage: list[ModelUsage]
    per_testing_criteria_results: list[CriterionResult]
    data_source: dict[str, Any]
    error: EvalError | None
    metadata: dict[str, str]


class DeletedRun(WireModel):
    """Answer of DELETE /v1/evals/{eval_id}/runs/{run_id}."""

    object: Literal["eval.run.deleted"] = "eval.run.deleted"
    deleted: bool = True
    run_id: str


class OutputItem(WireModel):
    """What became of one row."""

    object: Literal["eval.run.output_item"] = "eval.run.output_item"
    id: str
    created_at: int
    run_id: str
    eval_id: str
    status: Literal["pass", "fail", "error"]
    datasource_item_id: int
    """The row's number, from 0."""
    datasource_item: dict[str, Any]
    results: list[dict[str, Any]]
    sample: dict[str, Any]


def _check_types(data_source: dict[str, Any]) -> None:
    kind = data_source.get("type")
    if kind not in SOURCE_TYPES:
        raise unsupported_type(kind, "data_source", SOURCE_TYPES)
    source = data_source.get("source")
    if isinstance(source, dict) and source.get("type") not in ROW_SOURCES:
        raise unsupported_type(
            source.get("type"), "data_source.source", ROW_SOURCES, "No log of requests is kept that a run could read."
        )
    if kind != "jsonl" and isinstance(source, dict):
        for name in ("model", "input_messages"):
            if data_source.get(name) is None:
                param = f"data_source.{name}"
                raise RequestError(
                    f"Missing required parameter: {param!r}.", param=param, code="missing_required_parameter"
                )
