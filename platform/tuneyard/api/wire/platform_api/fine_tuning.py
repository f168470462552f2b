"""Requests and answers of /v1/fine_tuning/jobs. Source: OpenAI API reference, fine-tuning."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field

from tuneyard.api.wire.base import RequestModel, WireModel
from tuneyard.api.wire.platform_api.lists import PageQuery
from tuneyard.api.wire.platform_api.metadata import Metadata
from tuneyard.configs.experiment_tracking import WandbName, WandbTag, WandbText
from tuneyard.core.errors import RequestError

Auto = Literal["auto"]

JobStatus = Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
"""OpenAI's states. `paused` is that of a job after POST …/pause."""

FileId = Annotated[str, Field(min_length=1, max_length=128)]


class SupervisedHyperparameters(RequestModel):
    """Hyperparameters of supervised training. `auto` is resolved when the files are validated."""

    n_epochs: Auto | Annotated[int, Field(ge=1, le=50)] = "auto"
    batch_size: Auto | Annotated[int, Field(ge=1, le=1024)] = "auto"
    """Rows per optimizer step, on all workers together."""
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=100)] = "auto"
    """Factor of the learning rate that the base's configuration has."""


class DpoHyperparameters(SupervisedHyperparameters):
    """Hyperparameters of direct preference optimization."""

    beta: Auto | Annotated[float, Field(gt=0, le=2)] = "auto"
    """Weight of the penalty for leaving the base model."""


class SupervisedMethod(RequestModel):
    """Training on the assistant's messages."""

    hyperparameters: SupervisedHyperparameters = Field(default_factory=SupervisedHyperparameters)


class DpoMethod(RequestModel):
    """Training on pairs of a preferred and a rejected answer."""

    hyperparameters: DpoHyperparameters = Field(default_factory=DpoHyperparameters)


class Method(RequestModel):
    """The method of training and its hyperparameters."""

    type: Literal["supervised", "dpo"]
    supervised: SupervisedMethod | None = None
    dpo: DpoMethod | None = None

    def check(self) -> None:
        """Raises RequestError for the section of another method than `type`."""
        other = "dpo" if self.type == "supervised" else "supervised"
        if getattr(self, other) is not None:
            raise RequestError(
                f"'method.type' is {self.type!r}, and the request has hyperparameters of {other!r}. Leave out "
                f"'method.{other}', or change the type.",
                param=f"method.{other}",
                code="invalid_value",
            )


class WandbSettings(RequestModel):
    """Where Weights and Biases shows the run."""

    project: WandbName
    entity: WandbName | None = None
    name: WandbText | None = None
    tags: Annotated[list[WandbTag], Field(max_length=20)] | None = None


class Integration(RequestModel):
    """A service that gets the run's metrics."""

    type: Literal["wandb"]
    wandb: WandbSettings


class CreateJobRequest(RequestModel):
    """Body of POST /v1/fine_tuning/jobs."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    training_file: FileId
    validation_file: FileId | None = None
    hyperparameters: SupervisedHyperparameters | None = None
    """OpenAI's older place for the hyperparameters of supervised training."""
    method: Method | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    metadata: Metadata | None = None
    integrations: list[Integration] | None = Field(default=None, max_length=5)

    @classmethod
    def parse(cls, body: Any) -> Self:
        """See WireModel.parse. Reinforcement fine-tuning is refused by name."""
        method = body.get("method") if isinstance(body, dict) else None
        if isinstance(method, dict) and (method.get("type") == "reinforcement" or method.get("reinforcement")):
            raise RequestError(
                "Reinforcement fine-tuning is not supported by this server. Use the method 'supervised' or 'dpo'.",
                param="method.type",
                code="unsupported",
            )
        return super().parse(body)

    def check(self) -> None:
        """Raises RequestError for parameters that contradict each other."""
        if self.method is not None:
            self.method.check()
        if self.hyperparameters is not None and self.method is not None:
            raise RequestError(
                "The request has both 'hyperparameters' and 'method'. Give the hyperparameters in 'method' only.",
                param="hyperparameters",
                code="invalid_value",
            )
        if self.validation_file == self.training_file:
            raise RequestError(
                "'validation_file' is the training file. Give a file with other rows, or none.",
                param="validation_file",
                code="invalid_value",
            )

    @property
    def method_type(self) -> Literal["supervised", "dpo"]:
        """The method that the job trains with; supervised where the request names none."""
        return self.method.type if self.method is not None else "supervised"

    @property
    def requested_hyperparameters(self) -> SupervisedHyperparameters | DpoHyperparameters:
        """The hyperparameters, wherever the request has them."""
        if self.method_type == "dpo":
            assert self.method is not None
            return (self.method.dpo or DpoMethod()).hyperparameters
        if self.method is not None and self.method.supervised is not None:
            return self.method.supervised.hyperparameters
        return self.hyperparameters or SupervisedHyperparameters()


class JobError(WireModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None = None


class FineTuningJob(WireModel):
    """A job. `model` is the base here, also where the request named it by an alias; or the tuned model that it goes on
    from."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    error: JobError | None = None
    fine_tuned_model: str | None = None
    finished_at: int | None = None
    hyperparameters: dict[str, Any]
    model: str
    organization_id: str
    result_files: list[str]
    seed: int
    status: JobStatus
    trained_tokens: int | None = None
    training_file: str
    validation_file: str | None = None
    estimated_finish: int | None = None
    integrations: list[dict[str, Any]] | None = None
    metadata: dict[str, str] | None = None
    method: dict[str, Any]
    user_provided_suffix: str | None = None
    usage_metrics: None = None
    """Always null; OpenAI sends it."""
    shared_with_openai: Literal[False] = False
    """OpenAI sends it too."""


class FineTuningJobEvent(WireModel):
    """Something that happened to a job. `data` of a `metrics` event holds what was measured at a step."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"] = "message"
    data: dict[str, Any] = Field(default_factory=dict)


class EventQuery(PageQuery):
    """Query parameters of GET /v1/fine_tuning/jobs/{id}/events."""

    stream: bool = False
    """Whether to send the events as server-sent events, oldest first, until the job has ended."""


class CheckpointMetrics(WireModel):
    """What was measured at the checkpoint's step; null for what was not."""

    step: float | None = None
    train_loss: float | None = None
    train_mean_token_accuracy: float | None = None
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_mean_token_accuracy: float | None = None


class FineTuningJobCheckpoint(WireModel):
    """A checkpoint that can be used as a model."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: CheckpointMetrics
    step_number: int


class ModelDeleted(WireModel):
    """Answer of DELETE /v1/models/{model}."""

    id: str
    object: Literal["model"] = "model"
    deleted: bool = True
