"""ModelRegistry over MLflow: runs with their metrics, model versions that point at checkpoints, aliases.

The default is an SQLite file under TUNEYARD_HOME; a team sets MLFLOW_TRACKING_URI to a server. A version holds the
location of a checkpoint, never a copy of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from filelock import FileLock

from tuneyard.core.errors import ConfigError, RegistryError
from tuneyard.core.home import tuneyard_home
from tuneyard.storage.audit_log import AuditLog
from tuneyard.storage.location import is_uri

logger = logging.getLogger(__name__)

FOLDER_SCHEME = "tuneyard"
"""URI scheme of a folder in MLflow's `source` field, which must be a URI. MLflow's server treats `file:` as a folder of
its own machine and refuses it."""

MAX_METRICS_PER_WRITE = 1000
"""MLflow's limit for one request."""

TRAIN_TOKENS = "train_tokens"
"""Parameter of a run: the tokens of its training data."""

RUN_FOLDER = "run_folder"
"""Parameter of a run: the location of its folder."""

WANDB_RUN_TAG = "wandb.run"
"""Tag of a run: the URL of the run at Weights & Biases."""

WANDB_WARNING_TAG = "wandb.warning"
"""Tag of a run: why Weights & Biases has not all of its metrics."""

METRIC_TAG = "metric."
"""Begins the tags of a version that hold the run's metrics at its checkpoint, such as `metric.step`."""

NEWEST = "newest"
"""The alias that every registration moves to its version."""

REFERENCE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(@(?P<alias>[A-Za-z][A-Za-z0-9_-]*)|/(?P<version>\d+))")
"""`name@alias` or `name/version`."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered checkpoint. `tags` hold its lineage."""

    name: str
    version: int
    checkpoint: str
    """The checkpoint's location: a path or a URI."""
    run_id: str | None
    tags: dict[str, str]
    created_at: float = 0.0
    """Unix time in seconds."""

    @property
    def step(self) -> int | None:
        """The optimizer step after which the checkpoint was saved; None if its tags do not say so."""
        try:
            return int(float(self.tags[f"{METRIC_TAG}step"]))
        except (KeyError, ValueError, OverflowError):  # no tag, or one that someone else wrote
            return None


@dataclass(frozen=True, slots=True)
class LoggedPoint:
    """A value of a run's metric at a step; `logged_at` is Unix time in seconds."""

    name: str
    step: int
    value: float
    logged_at: float


@dataclass(frozen=True, slots=True)
class LoggedRun:
    """A run as the registry has it. Times are Unix seconds."""

    run_id: str
    name: str
    model_name: str
    """The registered model that it trains."""
    status: str
    """MLflow's: RUNNING, SCHEDULED, FINISHED, FAILED or KILLED."""
    started_at: float
    ended_at: float | None
    params: dict[str, str]
    latest: dict[str, LoggedPoint]
    """The newest value of each metric, by name."""


class ModelRegistry:
    """Runs and model versions in MLflow: at `$MLFLOW_TRACKING_URI`, else in an SQLite file under `home`.

    `home` defaults to `$TUNEYARD_HOME`. Opening the registry imports MLflow, which takes seconds. Raises ConfigError if
    `home` cannot be created.
    """

    def __init__(self, home: Path | None = None) -> None:
        # On first use MLflow logs every schema migration at INFO.
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow

        logging.getLogger("alembic").setLevel(logging.WARNING)
        home = home or tuneyard_home()
        self._audit_log = AuditLog(home / "audit.jsonl")
        self.uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"
        if self.uri.startswith("sqlite:"):
            try:
                home.mkdir(parents=True, exist_ok=True)
            except OSError as e:
                raise ConfigError(
                    f"TUNEYARD_HOME={home}: the folder of the model registry cannot be created on this machine: {e}. "
                    "Set TUNEYARD_HOME to a folder that exists, or MLFLOW_TRACKING_URI to a registry server."
                ) from e
        self._artifacts = (home / "mlartifacts").as_uri() if self.uri.startswith("sqlite:") else None
        # The client makes the tables of a new file, and fails if another process is making them.
        is_file = self.uri.startswith("sqlite:") and os.access(home, os.W_OK)
        with FileLock(home / "mlflow.db.lock", mode=0o600) if is_file else contextlib.nullcontext():
            if is_file and self.uri == f"sqlite:///{home / 'mlflow.db'}":
                _create_database(home / "mlflow.db", home / "mlartifacts")
            self._client = mlflow.MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        self._error = mlflow.exceptions.MlflowException

    def start_run(self, model_name: str, run_name: str, params: dict[str, Any], resume_run_id: str | None) -> str:
        """Creates a run, or sets the run `resume_run_id` to running again. Returns its id.

        Raises RegistryError if the registry has no run of that id.
        """
        if resume_run_id is not None:
            try:
                self._client.update_run(resume_run_id, status="RUNNING")
                return resume_run_id
            except self._error as e:
                raise RegistryError(
                    f"The run {resume_run_id} is not in the registry {self.uri}: {e}. If MLFLOW_TRACKING_URI was "
                    "changed, set it back; otherwise start over with --set run.resume=false."
                ) from e
        experiment = self._client.get_experiment_by_name(model_name)
        experiment_id = (
            experiment.experiment_id
            if experiment
            else self._client.create_experiment(model_name, artifact_location=self._artifacts)
        )
        run = self._client.create_run(experiment_id, run_name=run_name)
        for key, value in params.items():
            self._client.log_param(run.info.run_id, key, value)
        return str(run.info.run_id)

    def log_points(self, run_id: str, points: Sequence[tuple[int, dict[str, float]]]) -> None:
        """Adds points (step, metrics by name) to a run's curves, with as few requests as MLflow's limit allows."""
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        batch: list[Metric] = []
        for place, (step, values) in enumerate(points):
            # MLflow orders points of equal steps by time, so each point gets its own millisecond.
            point = [Metric(name, value, now_ms + place, step) for name, value in values.items()]
            # A step is written as a whole: who reads the run meanwhile finds all of it or nothing.
            if len(batch) + len(point) > MAX_METRICS_PER_WRITE:
                self._client.log_batch(run_id, metrics=batch)
                batch = []
            batch += point
        if batch:
            self._client.log_batch(run_id, metrics=batch)

    def newest_run(self, model_name: str) -> LoggedRun | None:
        """The newest run that trains or trained a model of that name; None if there is none."""
        experiment = self._client.get_experiment_by_name(model_name)
        if experiment is None:
            return None
        runs = self._client.search_runs([experiment.experiment_id], max_results=1, order_by=["start_time DESC"])
        return _logged_run(runs[0], model_name) if runs else None

    def runs(self, limit: int) -> list[LoggedRun]:
        """The newest runs of all models, the newest first; without the metrics' histories."""
        experiments = {experiment.experiment_id: experiment.name for experiment in self._client.search_experiments()}
        found = self._client.search_runs(list(experiments), max_results=limit, order_by=["start_time DESC"])
        return [_logged_run(run, experiments[run.info.experiment_id]) for run in found]

    def run(self, run_id: str) -> LoggedRun | None:
        """The run of that id; None if there is none."""
        try:
            run = self._client.get_run(run_id)
        except self._error as e:
            if e.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return _logged_run(run, self._client.get_experiment(run.info.experiment_id).name)

    def set_tag(self, run_id: str, name: str, value: str) -> None:
        """Sets a tag of a run, which may have ended."""
        self._client.set_tag(run_id, name, value)

    def run_tags(self, run_id: str) -> dict[str, str]:
        """The tags of a run, with MLflow's own."""
        return dict(self._client.get_run(run_id).data.tags)

    def points(self, run_id: str, name: str) -> list[LoggedPoint]:
        """All values of a run's metric, as they were logged."""
        history = self._client.get_metric_history(run_id, name)
        return [LoggedPoint(name, int(m.step), float(m.value), m.timestamp / 1000) for m in history]

    def end_run(self, run_id: str, *, succeeded: bool) -> None:
        """Sets a run to finished or failed."""
        self._client.set_terminated(run_id, "FINISHED" if succeeded else "FAILED")

    def register(
        self, name: str, checkpoint: str | Path, run_id: str | None, tags: dict[str, str], alias: str | None = NEWEST
    ) -> ModelVersion:
        """Adds a version that points at a published checkpoint, and moves the alias to it. Returns the version. None
        moves no alias.

        A checkpoint that was registered before for the same run, which was then killed, keeps its version.
        """
        if not self._is_registered(name):
            self._client.create_registered_model(name)
        before = self.aliases(name).get(alias) if alias is not None else None
        known = [v for v in self.versions(name) if run_id and (v.run_id, v.checkpoint) == (run_id, str(checkpoint))]
        if known:
            version = known[-1]
        else:
            source = _as_source(str(checkpoint))
            version = _model_version(self._client.create_model_version(name, source=source, run_id=run_id, tags=tags))
        if alias is None or before == version.version:
            return version
        self._client.set_registered_model_alias(name, alias, version.version)
        self._record_move(f"{name}@{alias}", before, version)
        return version

    def _record_move(self, alias: str, before: int | None, version: ModelVersion) -> None:
        """Appends a line to the audit log. Without one the registration is valid all the same: a run ends with it."""
        try:
            self._audit_log.append(
                "alias.move",
                alias,
                before=str(before) if before is not None else None,
                after=str(version.version),
                details={"run": version.run_id} if version.run_id else None,
            )
        except ConfigError as e:
            logger.warning("%s", e)

    def names(self) -> list[str]:
        """The names of all registered models, sorted."""
        return sorted(model.name for model in _all_pages(self._client.search_registered_models))

    def aliases(self, name: str) -> dict[str, int]:
        """The aliases of a registered model, each with its version."""
        return {alias: int(version) for alias, version in self._client.get_registered_model(name).aliases.items()}

    def find_aliases(self, name: str) -> dict[str, int]:
        """As aliases; empty if no model of that name is registered."""
        return self.aliases(name) if self._is_registered(name) else {}

    def delete_model(self, name: str) -> None:
        """Removes a registered model with its versions and aliases; checkpoints stay. An unknown name is no error."""
        if not self._is_registered(name):
            return
        versions = [f"{version.name}/{version.version}" for version in self.versions(name)]
        self._audit_log.append("model.delete", name, details={"versions": versions})
        self._client.delete_registered_model(name)

    def delete_version(self, name: str, version: int) -> None:
        """Removes a version of a model, with its aliases; its checkpoint stays. An unknown version is no error."""
        if not any(known.version == version for known in self.versions(name)):
            return
        self._audit_log.append("model.delete", f"{name}/{version}")
        self._client.delete_model_version(name, str(version))

    def _is_registered(self, name: str) -> bool:
        return any(model.name == name for model in self._client.search_registered_models(f"name='{name}'"))

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions of a model, oldest first; empty for an unknown name."""
        versions = self._client.search_model_versions(f"name='{name}'")
        return sorted((_model_version(v) for v in versions), key=lambda v: v.version)

    def all_versions(self) -> list[ModelVersion]:
        """The versions of all models, the newest first."""
        newest_first = _all_pages(self._client.search_model_versions, order_by=["creation_timestamp DESC"])
        return [_model_version(version) for version in newest_first]

    def all_aliases(self) -> dict[str, dict[str, int]]:
        """The aliases of all registered models, by model, each with its version."""
        models = _all_pages(self._client.search_registered_models)
        return {model.name: {alias: int(version) for alias, version in model.aliases.items()} for model in models}

    def find(self, reference: str) -> ModelVersion:
        """The version that `name@alias` or `name/version` refers to.

        Raises RegistryError, which lists the versions that exist, if there is no such version.
        """
        match = REFERENCE.fullmatch(reference)
        if not match:
            raise RegistryError(f"{reference!r} is not a model reference. Write name@alias or name/version.")
        name, alias, version = match["name"], match["alias"], match["version"]
        try:
            if alias:
                return _model_version(self._client.get_model_version_by_alias(name, alias))
            return _model_version(self._client.get_model_version(name, version))
        except self._error as e:
            known = [f"{v.name}/{v.version}" for v in self.versions(name)]
            registered = (
                f"Registered versions: {', '.join(known)}." if known else "No model of that name is registered."
            )
            raise RegistryError(f"{reference} is not in the registry {self.uri}. {registered}") from e


def _create_database(path: Path, artifacts: Path) -> None:
    """Makes MLflow's tables in a new file, unless it exists. For one process at a time.

    MLflow's migrations are no transaction: a process that is killed between two of them leaves a file that MLflow never
    opens again. So the file gets its name when all are done.
    """
    if path.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    new = path.with_name(f"{path.name}.new")
    for left in path.parent.glob(f"{new.name}*"):
        left.unlink()
    SqlAlchemyStore(f"sqlite:///{new}", artifacts.as_uri()).engine.dispose()
    new.rename(path)


def _all_pages(search: Callable[..., Any], **options: Any) -> Iterator[Any]:
    """All that a search of MLflow's client finds, which it answers in pages: of models, 100 each."""
    token: str | None = None
    while token != "":
        page = search(page_token=token, **options)
        yield from page
        token = page.token or ""


def _as_source(location: str) -> str:
    """A checkpoint's location as MLflow stores it: always a URI; see FOLDER_SCHEME."""
    return location if is_uri(location) else f"{FOLDER_SCHEME}://{quote(location)}"


def _model_version(version: Any) -> ModelVersion:
    """Converts MLflow's ModelVersion. Registries of earlier releases hold `file:` sources too."""
    source = str(version.source)
    is_folder = source.startswith((f"{FOLDER_SCHEME}:", "file:"))
    checkpoint = unquote(urlsplit(source).path) if is_folder else source
    return ModelVersion(
        version.name,
        int(version.version),
        checkpoint,
        version.run_id or None,
        dict(version.tags),
        version.creation_timestamp / 1000,
    )


def _logged_run(run: Any, model_name: str) -> LoggedRun:
    """Converts MLflow's Run."""
    info = run.info
    # The public field `metrics` has no steps and times.
    points = [LoggedPoint(m.key, int(m.step), float(m.value), m.timestamp / 1000) for m in run.data._metric_objs]
    return LoggedRun(
        run_id=info.run_id,
        name=info.run_name,
        model_name=model_name,
        status=info.status,
        started_at=info.start_time / 1000,
        ended_at=info.end_time / 1000 if info.end_time and info.status != "RUNNING" else None,
        params=dict(run.data.params),
        latest={point.name: point for point in points},
    )
