"""A cluster in this process: it checks files, runs jobs a step at a time, keeps their models and serves them.

It outlives the processes that use it, as a cluster does. Files are real ones, so that a test sees which are left.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from serve_apps.platform_app.fine_tuning.building import TuningCluster
from serve_apps.platform_app.fine_tuning.execution.cluster_capacity import ClusterCapacity
from serve_apps.platform_app.fine_tuning.execution.job_runner import RunReport
from serve_apps.platform_app.fine_tuning.execution.run_records import MetricPoint, TrainedModel, TrainingRecord
from serve_apps.platform_app.fine_tuning.records.states import RunState
from serve_apps.platform_app.fine_tuning.settings.file_checks import FileCheck, FileReport
from serve_apps.platform_app.tuned_models.model_host import ServedFacts
from serve_apps.platform_app.tuned_models.model_record import ModelRecord
from tuneyard.core.errors import CheckpointError, ClusterError
from tuneyard.storage.folder import StorageFolder

TRAIN_TOKENS = 1000
LARGE_NODE = {"CPU": 64.0}


@dataclass
class Run:
    """A run. `steps` is their number; `message` is why it failed."""

    job_id: str
    config: dict[str, object]
    steps: int
    state: RunState = RunState.PENDING
    message: str = ""
    is_stopping: bool = False


@dataclass
class ClusterInProcess:
    """The protocols CapacityReader, JobRunner, RunRecords, ModelHost, ModelFiles and FileChecker. `steps` is the length
    of new runs."""

    steps: int = 4
    capacity: ClusterCapacity = field(
        default_factory=lambda: ClusterCapacity(total=[LARGE_NODE], unserved=[LARGE_NODE], free=[LARGE_NODE])
    )
    runs: dict[str, Run] = field(default_factory=dict)
    submitted: list[str] = field(default_factory=list)
    """The id of every run that was ever begun; one whose submission nobody knew of is begun again on a new cluster."""
    found: set[str] = field(default_factory=set)
    """The ids of the runs that the application has asked for and knows: it begins none of them again."""
    points: dict[str, dict[int, MetricPoint]] = field(default_factory=dict)
    """By job and step: what the registry holds."""
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    """By job: the tags of its run in the registry."""
    versions: dict[str, str] = field(default_factory=dict)
    """By job: the location of the registered checkpoint. It is version 1."""
    earlier: dict[str, list[TrainedModel]] = field(default_factory=dict)
    """By job: its registered checkpoints before that one. A run saves one at each step."""
    held_aliases: dict[str, list[str]] = field(default_factory=dict)
    applications: dict[str, str] = field(default_factory=dict)
    """By application: the model's name."""
    failing_starts: set[str] = field(default_factory=set)
    """Ids of models whose application does not start."""
    violations: list[str] = field(default_factory=list)
    """What the application must never do and did: an exception would be logged there as any other, and tried again."""
    is_down: bool = False
    stops_slowly: bool = False
    """Whether a run that is stopped goes on for a while, as Ray's jobs do; it may even succeed."""
    silent_calls: int = 0
    """So many calls get no answer and have no effect."""
    lost_answers: int = 0
    """Of so many submissions and stops the answer is lost, after they took effect."""
    clock: float = 1_000.0
    deleted: list[str] = field(default_factory=list)
    """What was removed of models, in order: `application ID`, `versions ID`, `files ID`; of a checkpoint alone `version
    ID/NUMBER`, `files ID/NUMBER`."""

    @property
    def services(self) -> TuningCluster:
        """The cluster as the application takes it."""
        return TuningCluster(_Checker(), _Capacity(self), _Runner(self), _Records(self), _Host(self), _Files(self))

    def train(self, run_id: str) -> None:
        """The run goes one step forward; at its end it registers its model."""
        run = self.runs[run_id]
        if run.state.is_over:
            return
        run.state = RunState.RUNNING
        points = self.points.setdefault(run.job_id, {})
        step = max(points, default=0) + 1
        self.clock += 1
        if step <= run.steps:
            epoch = step / run.steps * float(run.config["training"]["epochs"])  # type: ignore[index]
            values = {"loss": 2.0 / step, "epoch": epoch}
            if run.config["data"]["heldout"] is not None:  # type: ignore[index]
                values["eval_loss"] = 2.5 / step
            points[step] = MetricPoint(step, values, self.clock)
        else:
            models = Path(run.config["run"]["storage"]) / "models" / run.job_id  # type: ignore[index]
            self.versions[run.job_id] = publish(models / "1")
            count = int(run.config["run"]["exported_checkpoints"])  # type: ignore[index]
            self.earlier[run.job_id] = [
                TrainedModel(f"{run.job_id}/{number}", publish(models / str(number)), earlier)
                for number, earlier in enumerate(range(max(1, run.steps - count + 1), run.steps), 2)
            ]
            run.state = RunState.SUCCEEDED

    def finish(self, run_id: str) -> None:
        """The run goes to its end."""
        while not self.runs[run_id].state.is_over:
            self.train(run_id)

    def fail(self, run_id: str, message: str) -> None:
        """The run reports an error of its own."""
        self.runs[run_id].state, self.runs[run_id].message = RunState.FAILED, message

    def kill_driver(self, run_id: str) -> None:
        """The run's process is killed."""
        if not self.runs[run_id].state.is_over:
            self.runs[run_id].state = RunState.INTERRUPTED

    def kill_head(self) -> None:
        """The cluster ends and another one starts: no run and no application is known there."""
        self.runs.clear()
        self.applications.clear()

    def live_runs(self, job_id: str | None = None) -> list[str]:
        """The runs that have not ended, of one job or of all."""
        return [
            run_id
            for run_id, run in self.runs.items()
            if not run.state.is_over and (job_id is None or run.job_id == job_id)
        ]

    def check_up(self) -> None:
        if self.is_down:
            raise ClusterError("the cluster does not answer")
        if self.silent_calls:
            self.silent_calls -= 1
            raise ClusterError("the cluster did not answer this call")

    def lose_answer(self) -> None:
        if self.lost_answers:
            self.lost_answers -= 1
            raise ClusterError("the cluster's answer was lost")


def publish(folder: Path) -> str:
    """The location of a published checkpoint, which is there now."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text("{}", encoding="utf-8")
    return str(folder)


@dataclass
class _Capacity:
    cluster: ClusterInProcess

    async def read(self) -> ClusterCapacity:
        self.cluster.check_up()
        return self.cluster.capacity


@dataclass
class _Runner:
    cluster: ClusterInProcess

    async def submit(self, run_id: str, config: str) -> None:
        self.cluster.check_up()
        if run_id in self.cluster.runs:
            return
        job_id = run_id.rpartition("-")[0]
        if others := self.cluster.live_runs(job_id):
            self.cluster.violations.append(f"{run_id} was submitted beside {others}")
        if run_id in self.cluster.found:
            self.cluster.violations.append(f"{run_id} was submitted twice")
        self.cluster.submitted.append(run_id)
        self.cluster.runs[run_id] = Run(job_id, json.loads(config), self.cluster.steps)
        self.cluster.lose_answer()

    async def find(self, run_id: str) -> RunReport:
        self.cluster.check_up()
        run = self.cluster.runs.get(run_id)
        if run is None:
            return RunReport(RunState.UNKNOWN)
        self.cluster.found.add(run_id)
        return RunReport(run.state, run.message)

    async def stop(self, run_id: str) -> None:
        self.cluster.check_up()
        run = self.cluster.runs.get(run_id)
        if run is not None and not run.state.is_over:
            run.is_stopping = True
            if not self.cluster.stops_slowly:
                run.state = RunState.STOPPED
        self.cluster.lose_answer()

    async def running(self) -> Mapping[str, RunState]:
        self.cluster.check_up()
        return {run_id: self.cluster.runs[run_id].state for run_id in self.cluster.live_runs()}


@dataclass
class _Records:
    cluster: ClusterInProcess

    async def training(self, job_id: str, after_step: int) -> TrainingRecord | None:
        points = self.cluster.points.get(job_id)
        if points is None:
            return None
        return TrainingRecord([points[step] for step in sorted(points) if step > after_step], TRAIN_TOKENS)

    async def tags(self, job_id: str) -> Mapping[str, str]:
        return self.cluster.tags.get(job_id, {})

    async def result(self, job_id: str) -> TrainedModel | None:
        checkpoint = self.cluster.versions.get(job_id)
        if checkpoint is None:
            return None
        step = max(self.cluster.points[job_id])
        return TrainedModel(f"{job_id}/1", checkpoint, step, tuple(self.cluster.earlier[job_id]))


@dataclass
class _Host:
    cluster: ClusterInProcess

    async def start(self, model: ModelRecord) -> ServedFacts:
        self.cluster.check_up()
        if model.id in self.cluster.failing_starts:
            raise ClusterError(f"{model.id} does not start")
        if not (Path(model.checkpoint) / "manifest.json").exists():
            raise CheckpointError(f"{model.checkpoint} has no manifest")
        self.cluster.applications[model.id] = model.name
        return ServedFacts(2048, {"X-Tuneyard-Model-Version": model.version})

    async def remove(self, model_id: str) -> None:
        self.cluster.check_up()
        if self.cluster.applications.pop(model_id, None) is not None:
            self.cluster.deleted.append(f"application {model_id}")

    async def running(self) -> set[str]:
        self.cluster.check_up()
        return set(self.cluster.applications)


@dataclass
class _Files:
    cluster: ClusterInProcess

    async def aliases(self, reference: str) -> Sequence[str]:
        held = self.cluster.held_aliases
        return [alias for name in held if name == reference or name.startswith(f"{reference}/") for alias in held[name]]

    async def delete(self, model_id: str, folder: str) -> None:
        self.cluster.earlier.pop(model_id, None)
        if self.cluster.versions.pop(model_id, None) is not None:
            self.cluster.deleted.append(f"versions {model_id}")
        if Path(folder).exists():
            self.cluster.deleted.append(f"files {model_id}")
        StorageFolder.open(folder).delete()

    async def delete_version(self, version: str, folder: str) -> None:
        earlier = self.cluster.earlier.get(version.partition("/")[0], [])
        for known in earlier[:]:
            if known.version == version:
                earlier.remove(known)
                self.cluster.deleted.append(f"version {version}")
        if Path(folder).exists():
            self.cluster.deleted.append(f"files {version}")
        StorageFolder.open(folder).delete()


class _Checker:
    """Counts the training file's lines. A line `broken` is an error. A system message of the first row is shared."""

    async def check(self, request: FileCheck) -> FileReport:
        rows = 0
        for file in request.files:
            lines = Path(file.location).read_text(encoding="utf-8").splitlines()
            if "broken" in lines:
                return FileReport(rows, file.param, f"{file.file_id}:{lines.index('broken') + 1}: a broken row")
            rows = rows or len(lines)
        first = json.loads(Path(request.files[0].location).read_text(encoding="utf-8").splitlines()[0])
        shared = [message["content"] for message in first.get("messages", []) if message["role"] == "system"]
        return FileReport(rows, instructions=shared[0] if shared else None)

    def close(self) -> None:
        """Nothing runs."""
