"""ModelRegistry over MLflow: runs with their metrics, model versions that point at checkpoints, aliases.

The embedded default is SQLite under TUNEYARD_HOME; a team sets MLFLOW_TRACKING_URI. Versions hold
the URI of a checkpoint, never a copy of it.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tuneyard.core.errors import ConfigError, RegistryError
from tuneyard.core.home import tuneyard_home
from tuneyard.storage.folder import is_uri

FOLDER_SCHEME = "tuneyard"
MAX_METRICS_PER_WRITE = 1000
"""MLflow's own limit."""

REFERENCE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(@(?P<alias>[A-Za-z][A-Za-z0-9_-]*)|/(?P<version>\d+))")


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered checkpoint. `tags` hold the lineage."""

    name: str
    version: int
    checkpoint: str
    """Its location: a path or a URI."""
    run_id: str | None
    tags: dict[str, str]


class ModelRegistry:
    """Runs and model versions. `MLFLOW_TRACKING_URI` or SQLite under `home`."""

    def __init__(self, home: Path | None = None) -> None:
        # Schema migrations and store set-up talk at INFO on first use.
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow

        logging.getLogger("alembic").setLevel(logging.WARNING)
        home = home or tuneyard_home()
        self.uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"
        if self.uri.startswith("sqlite:"):
            try:
                home.mkdir(parents=True, exist_ok=True)
            except OSError as e:
                raise ConfigError(
                    f"TUNEYARD_HOME={home}, where the registry lies, cannot be made on this machine: {e}. Set it to a "
                    "folder that is there, or MLFLOW_TRACKING_URI to a registry that is a server."
                ) from e
        self._artifacts = (home / "mlartifacts").as_uri() if self.uri.startswith("sqlite:") else None
        self._client = mlflow.MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        self._error = mlflow.exceptions.MlflowException

    def start_run(self, model_name: str, run_name: str, params: dict[str, Any], resume_run_id: str | None) -> str:
        """Id of a new run, or of the given one set running again."""
        if resume_run_id is not None:
            try:
                self._client.update_run(resume_run_id, status="RUNNING")
                return resume_run_id
            except self._error as e:
                raise RegistryError(
                    f"Run {resume_run_id} is not in the registry {self.uri}: {e}. Was MLFLOW_TRACKING_URI changed? "
                    "Set it back, or give run.resume=false to start over."
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
        """Adds points (step, metrics by name) to a run's curves, in one write."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        # A millisecond apart, so that their order can be told.
        metrics = [
            Metric(name, value, now + place, step)
            for place, (step, values) in enumerate(points)
            for name, value in values.items()
        ]
        for first in range(0, len(metrics), MAX_METRICS_PER_WRITE):
            self._client.log_batch(run_id, metrics=metrics[first : first + MAX_METRICS_PER_WRITE])

    def end_run(self, run_id: str, *, succeeded: bool) -> None:
        """Closes a run."""
        self._client.set_terminated(run_id, "FINISHED" if succeeded else "FAILED")

    def register(
        self, name: str, checkpoint: str | Path, run_id: str | None, tags: dict[str, str], alias: str = "newest"
    ) -> ModelVersion:
        """A new version that points at a published checkpoint; the alias moves to it."""
        if not any(model.name == name for model in self._client.search_registered_models(f"name='{name}'")):
            self._client.create_registered_model(name)
        made = self._client.create_model_version(name, source=_as_source(str(checkpoint)), run_id=run_id, tags=tags)
        self._client.set_registered_model_alias(name, alias, made.version)
        return _model_version(made)

    def names(self) -> list[str]:
        """All registered models."""
        return sorted(model.name for model in self._client.search_registered_models())

    def aliases(self, name: str) -> dict[str, int]:
        """Alias -> version of a registered model."""
        return {alias: int(version) for alias, version in self._client.get_registered_model(name).aliases.items()}

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions of a model, oldest first; none for an unknown name."""
        found = self._client.search_model_versions(f"name='{name}'")
        return sorted((_model_version(v) for v in found), key=lambda v: v.version)

    def find(self, reference: str) -> ModelVersion:
        """The version that `name@alias` or `name/version` means. Raises RegistryError with what there is."""
        match = REFERENCE.fullmatch(reference)
        if not match:
            raise RegistryError(f"{reference!r} is no model reference. Write name@alias or name/version.")
        name, alias, version = match["name"], match["alias"], match["version"]
        try:
            if alias:
                return _model_version(self._client.get_model_version_by_alias(name, alias))
            return _model_version(self._client.get_model_version(name, version))
        except self._error as e:
            known = [f"{v.name}/{v.version}" for v in self.versions(name)]
            there = f"It has {', '.join(known)}." if known else "No model of that name is registered."
            raise RegistryError(f"{reference} is not in the registry {self.uri}. {there}") from e


def _as_source(location: str) -> str:
    """As MLflow has it: always a URI. Not `file:`, which its server takes for a folder of its own, and refuses."""
    return location if is_uri(location) else f"{FOLDER_SCHEME}://{quote(location)}"


def _model_version(found: Any) -> ModelVersion:
    source = str(found.source)
    is_folder = source.startswith((f"{FOLDER_SCHEME}:", "file:"))
    checkpoint = unquote(urlsplit(source).path) if is_folder else source
    return ModelVersion(found.name, int(found.version), checkpoint, found.run_id or None, dict(found.tags))
