"""Graders: what gives an answer a score. Source: OpenAI API reference, graders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from tuneyard.api.wire.base import RequestModel
from tuneyard.api.wire.effort import RequestedEffort
from tuneyard.api.wire.platform_api.grader_messages import TemplateMessage, TemplateText
from tuneyard.api.wire.responses.union_tags import tag_of_type, unsupported_type
from tuneyard.core.errors import RequestError
from tuneyard.evaluation.formulas import Formula
from tuneyard.evaluation.similarity.metrics import TEXT_METRICS, TextMetric
from tuneyard.evaluation.string_checks import StringOperation

GraderName = Annotated[str, Field(min_length=1, max_length=256)]
MAX_SUB_GRADERS = 16


class StringCheckGrader(RequestModel):
    """Compares two texts: 1 or 0."""

    type: Literal["string_check"]
    name: GraderName
    input: TemplateText
    reference: TemplateText
    operation: StringOperation

    @property
    def templates(self) -> Iterator[tuple[str, str]]:
        """The field and the text of each template."""
        yield from (("input", self.input), ("reference", self.reference))

    @property
    def threshold(self) -> float:
        return 1.0


class TextSimilarityGrader(RequestModel):
    """Measures how similar two texts are: 0 to 1."""

    type: Literal["text_similarity"]
    name: GraderName
    input: TemplateText
    reference: TemplateText
    evaluation_metric: TextMetric
    pass_threshold: float | None = None
    """The least score that passes. Required in an eval."""

    @property
    def templates(self) -> Iterator[tuple[str, str]]:
        """The field and the text of each template."""
        yield from (("input", self.input), ("reference", self.reference))

    @property
    def threshold(self) -> float:
        return 1.0 if self.pass_threshold is None else self.pass_threshold


class GraderSampling(RequestModel):
    """How the grading model is sampled."""

    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    top_p: float | None = Field(default=None, gt=0, le=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_completions_tokens: int | None = Field(default=None, ge=1)
    """OpenAI's name of this field; its runs call it max_completion_tokens."""
    reasoning_effort: RequestedEffort | None = None


class ModelGrader(RequestModel):
    """What graders have in common that ask a model."""

    name: GraderName
    model: Annotated[str, Field(min_length=1, max_length=256)]
    input: list[TemplateMessage] = Field(min_length=1, max_length=64)
    sampling_params: GraderSampling | None = None

    @property
    def templates(self) -> Iterator[tuple[str, str]]:
        """The field and the text of each template."""
        for number, message in enumerate(self.input):
            yield from ((f"input.{number}.content", text) for text in message.texts)


class ScoreModelGrader(ModelGrader):
    """Asks a model for a score in a range."""

    type: Literal["score_model"]
    range: list[float] | None = Field(default=None, min_length=2, max_length=2)
    pass_threshold: float | None = None
    """The least score that passes; null: the middle of the range."""

    def check_fields(self, param: str) -> None:
        """Raises RequestError for a range that is none, and a threshold outside of it."""
        low, high = self.score_range
        if low >= high:
            raise _invalid(f"{param}.range", f"must be two numbers, the smaller one first, found {[low, high]}")
        if self.pass_threshold is not None and not low <= self.pass_threshold <= high:
            raise _invalid(f"{param}.pass_threshold", f"must be from {low:g} to {high:g}, as the range")

    @property
    def score_range(self) -> tuple[float, float]:
        """The least and the greatest score."""
        return (self.range[0], self.range[1]) if self.range is not None else (0.0, 1.0)

    @property
    def threshold(self) -> float:
        return sum(self.score_range) / 2 if self.pass_threshold is None else self.pass_threshold


class LabelModelGrader(ModelGrader):
    """Asks a model for one of some labels: 1 if that label passes, else 0."""

    type: Literal["label_model"]
    labels: list[Annotated[str, Field(min_length=1, max_length=256)]] = Field(min_length=1, max_length=256)
    passing_labels: list[str] = Field(min_length=1)

    def check_fields(self, param: str) -> None:
        """Raises RequestError for labels that stand twice, and passing labels that are no labels."""
        if len(set(self.labels)) < len(self.labels):
            repeated = next(label for number, label in enumerate(self.labels) if label in self.labels[:number])
            raise _invalid(f"{param}.labels", f"has {repeated!r} twice")
        for label in self.passing_labels:
            if label not in self.labels:
                raise _invalid(f"{param}.passing_labels", f"{label!r} is none of the labels")

    @property
    def threshold(self) -> float:
        return 1.0


_OneGrader = (
    Annotated[StringCheckGrader, Tag("string_check-type")]
    | Annotated[TextSimilarityGrader, Tag("text_similarity-type")]
    | Annotated[ScoreModelGrader, Tag("score_model-type")]
    | Annotated[LabelModelGrader, Tag("label_model-type")]
)
SubGrader = Annotated[_OneGrader, Discriminator(tag_of_type)]
GRADER_TYPES = ("string_check", "text_similarity", "label_model", "score_model")


class MultiGrader(RequestModel):
    """Combines the scores of several graders by a formula over their names in `graders`."""

    type: Literal["multi"]
    name: GraderName
    graders: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=64)], SubGrader] = Field(
        min_length=1, max_length=MAX_SUB_GRADERS
    )
    calculate_output: str
    pass_threshold: float | None = None
    """The least score that passes; null: 0.5. Not OpenAI's: its multi graders only give rewards."""

    def check_fields(self, param: str) -> None:
        """Raises RequestError for a formula that is none, and what its graders' check_fields raise."""
        try:
            Formula(self.calculate_output, self.graders)
        except ValueError as e:
            raise _invalid(f"{param}.calculate_output", str(e)) from e
        for name, grader in self.graders.items():
            check_grader_fields(grader, f"{param}.graders.{name}")

    @property
    def templates(self) -> Iterator[tuple[str, str]]:
        """The field and the text of each template."""
        for name, grader in self.graders.items():
            yield from ((f"graders.{name}.{field}", text) for field, text in grader.templates)

    @property
    def threshold(self) -> float:
        return 0.5 if self.pass_threshold is None else self.pass_threshold


Grader = Annotated[_OneGrader | Annotated[MultiGrader, Tag("multi-type")], Discriminator(tag_of_type)]
AnyGrader = StringCheckGrader | TextSimilarityGrader | ScoreModelGrader | LabelModelGrader | MultiGrader


def check_grader_type(grader: Any, param: str) -> None:
    """Raises RequestError, by name, for what OpenAI has and this server does not: in a grader, and in its graders."""
    if not isinstance(grader, dict):
        raise _invalid(param, "must be an object")
    kind = grader.get("type")
    if kind == "python":
        raise RequestError(
            f"{param} is a python grader, which this server does not support: it would run your code beside other "
            "people's models and files. Use string_check, text_similarity, score_model or label_model, or grade the "
            "run's output items in your own process.",
            param=param,
            code="unsupported",
        )
    if kind == "multi" and isinstance(sub_graders := grader.get("graders"), dict):
        for name, sub_grader in sub_graders.items():
            check_grader_type(sub_grader, f"{param}.graders.{name}")
            if sub_grader.get("type") == "multi":
                raise _invalid(f"{param}.graders.{name}", "must not be a multi grader inside a multi grader")
    elif kind not in (*GRADER_TYPES, "multi"):
        raise unsupported_type(kind, param, (*GRADER_TYPES, "multi"))
    if grader.get("evaluation_metric") == "cosine":
        raise RequestError(
            f"{param} measures the cosine of embeddings, which this server does not support: it serves no embedding "
            f"model. Use one of {', '.join(TEXT_METRICS)}, or a score_model grader.",
            param=f"{param}.evaluation_metric",
            code="unsupported",
        )


def check_grader_fields(grader: AnyGrader, param: str) -> None:
    """Raises RequestError for fields of a grader that contradict each other."""
    if isinstance(grader, ScoreModelGrader | LabelModelGrader | MultiGrader):
        grader.check_fields(param)


def _invalid(param: str, requirement: str) -> RequestError:
    return RequestError(f"Invalid value for {param!r}: {requirement}.", param=param, code="invalid_value")
