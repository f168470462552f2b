"""Answers of /v1/runs and /v1/model_versions: what administrators see of all runs and versions."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tuneyard.api.wire.base import WireModel
from tuneyard.api.wire.platform_api.lists import ObjectList, PageQuery
from tuneyard.training_data.report.data_report import DataReport

RunStatus = Literal["queued", "running", "silent", "succeeded", "failed", "stopped"]
"""`silent`: the run has not ended, no job of this cluster runs it, and it has logged nothing for a while."""

MAX_POINTS = 5000
"""Points of a run's curves in one answer, at most."""


class Run(WireModel):
    """A finetuning run: what the model registry and Ray's job server know of it."""

    id: str
    """The run's id in the model registry; of a job that has not begun to train, its id at Ray's job server."""
    object: Literal["run"] = "run"
    name: str
    """`run.name` of its config; of a fine-tuning job of this API, the job's id."""
    model: str | None
    """`run.model_name`; null before it trains."""
    status: RunStatus
    message: str | None
    """Why it failed, or what is unusual; null if there is nothing to say."""
    step: int | None
    """Optimizer steps that are done."""
    total_steps: int | None
    progress: float | None
    """Share of the training that is done, 0 to 1; null before the first step."""
    estimated_finish: int | None
    """When the training ends at its pace, in seconds since 1970; only while it trains."""
    started_at: int
    """Seconds since 1970."""
    finished_at: int | None
    metrics: dict[str, float]
    """The newest value of each metric, such as `loss`, `eval_loss`, `learning_rate` and `tokens_per_s`."""
    job: str | None
    """The id of its newest job at Ray's job server; null if this cluster knows none."""
    version: str | None
    """The version that it registered, `name/number`."""


class RunDetails(Run):
    """GET /v1/runs/{id}."""

    folder: str | None
    """The run's folder; null if it is not known."""
    config: dict[str, Any] | None
    """The resolved config, with secrets hidden; null if it cannot be read."""
    data: DataReport | None
    """Statistics of the data and the first tokens; null if they cannot be read."""
    params: dict[str, str]
    """What the registry notes of the run: base, fingerprints, settings."""
    problems: tuple[str, ...]
    """One sentence for each part that cannot be read."""


class RunList(ObjectList[Run]):
    """GET /v1/runs: the newest first. `problems`: one sentence for each source that does not answer."""

    problems: tuple[str, ...] = ()


class RunQuery(PageQuery):
    """Query parameters of GET /v1/runs."""

    order: Literal["desc"] = "desc"


class CurvesQuery(WireModel):
    """Query parameters of GET /v1/runs/{id}/metrics; values are text, which is converted."""

    max_points: int = Field(default=500, ge=2, le=MAX_POINTS)
    """The most points of a curve. Of a longer run every n-th step is there, the newest step, and every evaluation
    that fits."""


class Curve(WireModel):
    """The values of one metric by optimizer step. A step that was repeated after a failure is there once."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float | None, ...]
    """A value of null was not finite."""


class RunCurves(WireModel):
    """GET /v1/runs/{id}/metrics."""

    object: Literal["run.metrics"] = "run.metrics"
    run: str
    last_step: int | None
    curves: tuple[Curve, ...]


class ServedBy(WireModel):
    """A deployment that answers with a version."""

    model: str
    """The model id that clients use."""
    reference: str | None
    """What it was deployed by, such as `support@production`."""


class Lineage(WireModel):
    """What a version was made from; null where the registry does not say."""

    run: str | None
    """The run's id."""
    run_name: str | None
    base: str | None
    base_digest: str | None
    dataset_fingerprint: str | None
    codec_fingerprint: str | None
    weights_digest: str | None
    git_commit: str | None


class Version(WireModel):
    """A registered version of a model."""

    id: str
    """`name/number`."""
    object: Literal["model.version"] = "model.version"
    model: str
    version: int
    kind: Literal["model", "adapter"]
    aliases: tuple[str, ...]
    created_at: int
    """Seconds since 1970."""
    checkpoint: str
    """The checkpoint's location."""
    lineage: Lineage
    metrics: dict[str, float]
    """The run's metrics at this checkpoint, `eval_loss` among them if it was measured."""
    served_by: tuple[ServedBy, ...]


class VersionList(ObjectList[Version]):
    """GET /v1/model_versions: the newest first. `problems` as in RunList."""

    problems: tuple[str, ...] = ()


class VersionQuery(RunQuery):
    """Query parameters of GET /v1/model_versions."""
