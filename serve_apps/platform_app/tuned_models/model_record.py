"""ModelRecord: a tuned model as the store has it; and its name."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from serve_apps.platform_app.store.object_ids import JOB

NAME_DIGITS = 12
"""Digits of the job's id, of its random half, that end a model's name."""

_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """A tuned model; see tables.TUNED_MODELS."""

    id: str
    owner: str
    created_at: float
    name: str
    state: str
    base: str
    version: str
    checkpoint: str
    folder: str
    checkpoint_of: str | None = None
    max_model_len: int = 0
    headers: dict[str, str] = field(default_factory=dict)


def model_record(row: Row[Any]) -> ModelRecord:
    """The record of a row of tables.TUNED_MODELS."""
    return ModelRecord(**row._asdict() | {"headers": json.loads(row.headers)})


def model_name(base: str, organization: str, suffix: str | None, job_id: str) -> str:
    """OpenAI's name of a tuned model, `ft:BASE:ORGANIZATION:SUFFIX:ID`. The suffix is in lower case, with hyphens."""
    clean = _NOT_IN_NAMES.sub("-", (suffix or "").lower()).strip("-")
    return f"ft:{base}:{organization}:{clean}:{job_id.removeprefix(JOB)[-NAME_DIGITS:]}"


def checkpoint_name(name: str, step: int) -> str:
    """OpenAI's name of an earlier checkpoint of the model of that name."""
    return f"{name}:ckpt-step-{step}"


def checkpoint_model_id(job_id: str, step: int) -> str:
    """The id of the model of a job's earlier checkpoint. It sorts after the job's, and before the next job's."""
    return f"{job_id}-step-{step}"
