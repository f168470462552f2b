"""The integrations of a saved job as the API takes them, and what is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuneyard.api.wire.platform_api.fine_tuning import Integration, WandbSettings
from tuneyard.core.errors import RequestError

METRICS_ARE_KEPT = "Metrics are in MLflow, in the job's events and in its result file."


def take_integrations(job: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """The job's integration `wandb`, or none: the API takes one of a job. And notes of what is left out."""
    taken: list[dict[str, Any]] = []
    notes: list[str] = []
    integrations = job.get("integrations")
    for saved in integrations if isinstance(integrations, list) else []:
        kind, section = (saved.get("type"), saved.get("wandb")) if isinstance(saved, dict) else (saved, None)
        if kind != "wandb" or not isinstance(section, dict):
            notes.append(f"its integration {str(kind)[:100]} is left out. {METRICS_ARE_KEPT}")
        elif taken:
            notes.append(f"its integration wandb of {section.get('project')} is left out: a job has one here")
        else:
            settings = {name: value for name, value in section.items() if value is not None}
            known = {name: value for name, value in settings.items() if name in WandbSettings.model_fields}
            try:
                Integration.parse({"type": "wandb", "wandb": known})
            except RequestError as e:
                notes.append(f"its integration wandb is left out. {e} {METRICS_ARE_KEPT}")
                continue
            taken.append({"type": "wandb", "wandb": known})
            # The id of the run at the time is no setting.
            if unknown := sorted(settings.keys() - known.keys() - {"run_id"}):
                notes.append(f"of its integration wandb these are left out: {', '.join(unknown)[:200]}")
    return taken, notes
