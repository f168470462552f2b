"""The request that creates a saved job again, or why it is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tuneyard.api.wire.platform_api.fine_tuning import CreateJobRequest
from tuneyard.cli.openai_import.export_folder import ExportFolder, SavedObject
from tuneyard.cli.openai_import.saved_integrations import METRICS_ARE_KEPT, take_integrations
from tuneyard.core.errors import DatasetError, RequestError

IMPORTED_FROM = "imported_from"
"""The key in a job's metadata that has the id of the job at OpenAI."""

TRAINING, VALIDATION = "file-training", "file-validation"
"""Stand for the ids of files that are not uploaded yet."""


@dataclass(frozen=True)
class ImportPlan:
    """What is to be done for a saved job."""

    job_id: str
    """Its id at OpenAI."""
    model: str
    """OpenAI's name of its base."""
    tuned_model: str | None
    """OpenAI's name of its result."""
    body: dict[str, Any]
    """The request, with TRAINING and VALIDATION in the place of files."""
    files: dict[str, Path]
    """By field of the request: the file."""
    notes: tuple[str, ...]
    """What is left out."""
    parent_id: str | None
    """OpenAI's id of the job whose result this one goes on from."""

    def without_integrations(self) -> ImportPlan:
        """The same job for a deployment that does not send metrics to Weights & Biases."""
        body = {name: value for name, value in self.body.items() if name != "integrations"}
        note = f"its integration wandb is left out: this deployment has no platform.wandb. {METRICS_ARE_KEPT}"
        return replace(self, body=body, notes=(*self.notes, note))

    def describe(self) -> str:
        """The method, its hyperparameters and the files, in a line."""
        method = self.body["method"]["type"]
        values = self.body["method"][method]["hyperparameters"] | {
            name: self.body[name] for name in ("suffix", "seed") if name in self.body
        }
        for integration in self.body.get("integrations", ()):
            values = values | {"wandb.project": integration["wandb"]["project"]}
        settings = "".join(f" {name}={value}" for name, value in values.items())
        return f"{self.body['model']}  {method}{settings}  {', '.join(path.name for path in self.files.values())}"


def plan_import(job: SavedObject, folder: ExportFolder, base: str | None) -> ImportPlan:
    """The plan for a job of OpenAI. `base` replaces the name of its model, unless a job in the folder made that.

    Raises RequestError for what no API here takes, DatasetError if a file is not in the folder.
    """
    model, tuned_model = str(job.get("model")), job.get("fine_tuned_model")
    parent_id = folder.maker_of(model)
    is_orphan = model.startswith("ft:") and parent_id is None
    if is_orphan and base is None:
        raise RequestError(
            f"it goes on from {model}, and {folder.path} has no job that made it. Save that one too, or give a base "
            "with --model.",
            param="model",
        )
    integrations, notes = take_integrations(job)
    if is_orphan:
        notes.append(f"it went on from {model}, and begins from {base} here")
    file_ids = {"training_file": job.get("training_file"), "validation_file": job.get("validation_file")}
    if file_ids["validation_file"] == file_ids["training_file"]:
        file_ids["validation_file"] = None
        notes.append("its validation_file is left out: it is the training file")
    body = _without_nulls(
        {
            "model": model if parent_id is not None else base or model,
            "training_file": TRAINING,
            "validation_file": VALIDATION if file_ids["validation_file"] is not None else None,
            "method": _method(job),
            "suffix": _suffix(job),
            "seed": job.get("seed"),
            "metadata": (job.get("metadata") or {}) | {IMPORTED_FROM: str(job["id"])},
            "integrations": integrations or None,
        }
    )
    CreateJobRequest.parse(body)
    if not isinstance(file_ids["training_file"], str):
        raise DatasetError("it has no training_file.")
    files = {field: folder.find(str(file_id)) for field, file_id in file_ids.items() if file_id is not None}
    return ImportPlan(str(job["id"]), model, tuned_model, body, files, tuple(notes), parent_id)


def _method(job: SavedObject) -> dict[str, Any]:
    """The method with its hyperparameters; OpenAI's older jobs have these beside it."""
    method = job.get("method")
    kind = str(method.get("type")) if isinstance(method, dict) else "supervised"
    section = method.get(kind) if isinstance(method, dict) else None
    values = section.get("hyperparameters") if isinstance(section, dict) else None
    if values is None and kind == "supervised":
        values = job.get("hyperparameters")
    return {"type": kind, kind: {"hyperparameters": _without_nulls(values if isinstance(values, dict) else {})}}


def _suffix(job: SavedObject) -> str | None:
    """The suffix; older jobs have it in the name of their model only, ft:BASE:ORGANIZATION:SUFFIX:ID."""
    given = job.get("user_provided_suffix") or job.get("suffix")
    parts = str(job.get("fine_tuned_model") or "").split(":")
    return given or (parts[3] if len(parts) >= 5 and parts[0] == "ft" and parts[3] else None)


def _without_nulls(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
