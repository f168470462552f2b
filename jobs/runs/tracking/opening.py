"""open_tracking: begins to track a run, where its config says so; and the settings that are shown there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath

from jobs.runs.run_record import RunFolder
from jobs.runs.tracking.messages import Notice, StartMessage
from jobs.runs.tracking.tracking_process import COMMAND, TrackingProcess
from tuneyard.checkpoints.registry import RUN_FOLDER, WANDB_RUN_TAG, WANDB_WARNING_TAG
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.home import tuneyard_home

SUBFOLDER = "wandb"
"""Folder in the run's folder where the package wandb keeps its copy of the run."""

TAGS = {"run": WANDB_RUN_TAG, "warning": WANDB_WARNING_TAG}
"""The registry's tag that holds a notice, by the notice's kind."""


def open_tracking(
    config: FinetuneConfig,
    params: Mapping[str, str],
    mlflow_run_id: str,
    set_tag: Callable[[str, str], None],
    command: Sequence[str] = COMMAND,
) -> TrackingProcess | None:
    """The process that gets the run's metrics; None if the config names no service, or no process can start.

    `params` are the run's parameters in the registry; `set_tag` sets a tag of it, and is called in a thread. Prints
    what the tags say.
    """
    if config.wandb is None:
        return None
    start = StartMessage(
        run_id=config.wandb.run_id or f"{config.run.name}-{mlflow_run_id[:8]}",
        name=config.run.name,
        folder=_local_folder(config),
        wandb=config.wandb,
        settings=public_settings(params),
    )

    def note(notice: Notice) -> None:
        text = notice.text if notice.kind == "run" else f"{notice.text}. Training is not affected"
        print(f"[finetune] Weights & Biases: {text}", flush=True)
        set_tag(TAGS[notice.kind], notice.text)

    try:
        return TrackingProcess(start, note, command)
    except OSError as e:
        note(Notice(kind="warning", text=f"its process cannot start: {e}"))
        return None


def public_settings(params: Mapping[str, str]) -> dict[str, int | float | str]:
    """The parameters that leave the cluster: those without locations; of the base only its name. Training settings that
    are numbers are numbers again, so that runs can be compared by them."""
    shown = {
        name: _number_or_text(value) if name.startswith("training.") else value
        for name, value in params.items()
        if name != RUN_FOLDER
    }
    return shown | {"base": PurePosixPath(params["base"].partition("?")[0]).name}


def _number_or_text(value: str) -> int | float | str:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(value)
    return value


def _local_folder(config: FinetuneConfig) -> str:
    if chosen := os.environ.get("WANDB_DIR"):
        return chosen
    folder = RunFolder(config).storage.local
    return str(folder / SUBFOLDER if folder is not None else tuneyard_home())
