"""The finetuning config of a job's run: the base's template with the job's own data, name, seed and hyperparameters."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from serve_apps.platform_app.fine_tuning.settings.bases import Base
from serve_apps.platform_app.fine_tuning.settings.hyperparameters import Hyperparameters
from tuneyard.chats.row_settings import RowSettings
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import ConfigError
from tuneyard.storage.location import child_location

RUNS_FOLDER = "fine_tuning"
"""Folder of the template's storage that holds one folder for each job: its run, its tokens and its model."""


def job_folder(base: Base, job_id: str) -> str:
    """The location of the folder that everything of a job's run is in."""
    return child_location(base.template.run.storage, RUNS_FOLDER, job_id)


def run_config(
    base: Base,
    job_id: str,
    training_file: str,
    validation_file: str | None,
    seed: int,
    values: Hyperparameters,
    parent: str | None = None,
    wandb: dict[str, Any] | None = None,
) -> FinetuneConfig:
    """The config of the job's run, for every attempt of it. The files, and the checkpoint of a tuned model that it
    starts from in place of the base, are given by their locations; `wandb` are the fields of WandbConfig, if metrics go
    to Weights & Biases.

    Raises ConfigError if the template does not allow the job's values.
    """
    fields = base.template.model_dump()
    fields["run"] |= {
        "name": job_id,
        "model_name": job_id,
        "storage": job_folder(base, job_id),
        "resume": True,
        "exported_checkpoints": base.config.checkpoints,
    }
    if parent is not None:
        fields["model"]["base"] = parent
    is_dpo = values.beta is not None
    fields["data"] |= {"train": training_file, "heldout": validation_file} | _file_fields(base, is_dpo=is_dpo)
    fields["training"] |= values.training_fields(base) | {"seed": seed}
    fields["deploy"] = None
    fields["wandb"] = wandb
    _drop_what_does_not_apply(fields, is_dpo=is_dpo, has_heldout=validation_file is not None)
    try:
        return FinetuneConfig.model_validate(fields)
    except ValidationError as e:
        problem = e.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise ConfigError(
            f"platform.bases.{base.name}: its config {base.config.config} does not allow this job: "
            f"{f'{where}: ' if where else ''}{problem['msg']}."
        ) from e


def row_settings(base: Base, *, is_dpo: bool) -> RowSettings:
    """How the rows of a job's files are read."""
    fields = {name: getattr(base.template.data, name) for name in RowSettings.model_fields}
    return RowSettings.model_validate(fields | _file_fields(base, is_dpo=is_dpo))


def _file_fields(base: Base, *, is_dpo: bool) -> dict[str, Any]:
    """Fields of `data` that are not the template's: an uploaded file has OpenAI's format, which its rows show."""
    preference = base.template.data.preference
    chats_of_pairs = preference if preference != "pairs" else None
    return {"format": None, "columns": {}, "preference": "pairs" if is_dpo else chats_of_pairs}


def _drop_what_does_not_apply(fields: dict[str, Any], *, is_dpo: bool, has_heldout: bool) -> None:
    """Removes settings of the template that are for chats, or for held-out rows, from a job without them."""
    if not has_heldout:
        fields["training"]["early_stopping_patience"] = None
    if is_dpo and fields["data"]["batching"] == "packed":
        fields["data"]["batching"] = "grouped"
