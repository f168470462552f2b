"""A job's integration with Weights & Biases: its run's config, and what clients are told of the run there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serve_apps.platform_app.fine_tuning.records.job_store import EventText
from tuneyard.checkpoints.registry import WANDB_RUN_TAG, WANDB_WARNING_TAG
from tuneyard.configs.experiment_tracking import WandbServerConfig

Integrations = Sequence[Mapping[str, Any]]

TOLD = "told"
"""Field of a stored integration: the tags whose events the job has."""


def wandb_fields(
    job_id: str, integrations: Integrations | None, server: WandbServerConfig | None
) -> dict[str, Any] | None:
    """The fields of WandbConfig for a job's run; None if it has no integration, or the deployment none any more."""
    if not integrations or server is None:
        return None
    requested = integrations[0]["wandb"]
    return server.model_dump() | {
        "entity": requested["entity"] or server.entity,
        "project": requested["project"],
        "name": requested["name"],
        "tags": tuple(requested["tags"] or ()),
        "run_id": job_id,
    }


def tracking_events(
    integrations: Integrations, tags: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[EventText]]:
    """The integrations as they are to be stored, and the events that the job does not have yet.

    `tags` are those of the run in the registry. Each tag is told once, also if a later attempt of the job sets it anew.
    """
    updated = [dict(item) for item in integrations]
    events: list[EventText] = []
    for item in updated:
        new = {name: tags[name] for name in (WANDB_RUN_TAG, WANDB_WARNING_TAG) if name in tags}
        told = item.get(TOLD, [])
        events += [_event(name, text, item["wandb"]["project"]) for name, text in new.items() if name not in told]
        item[TOLD] = [*told, *(name for name in new if name not in told)]
    return updated, events


def _event(name: str, text: str, project: str) -> EventText:
    if name == WANDB_RUN_TAG:
        return EventText(f"Weights & Biases shows the metrics in the project {project}: {text}")
    return EventText(f"Weights & Biases may lack metrics of this job: {text}. The job goes on without it.", "warn")
