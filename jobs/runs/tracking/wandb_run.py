"""WandbRun: a run at Weights & Biases. The only module that imports wandb."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import wandb

from jobs.runs.tracking.messages import StartMessage

INIT_TIMEOUT_S = 60.0
"""Seconds in which the server must open the run."""

OFFLINE = "offline (WANDB_MODE)"
"""In place of the URL of a run that is not sent."""

STEP = "step"
"""The metric that is the horizontal axis of all others."""


class WandbRun:
    """See TrackedRun. A step that a resumed run repeats has two points, of which the newer is drawn last."""

    def __init__(self, start: StartMessage) -> None:
        """Opens the run, or the one of the same id again. Raises wandb's errors if the server refuses it."""
        config = start.wandb
        Path(start.folder).mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            id=start.run_id,
            resume="allow",
            project=config.project,
            entity=config.entity,
            name=config.name or start.name,
            tags=config.tags,
            config=start.settings,
            dir=start.folder,
            settings=wandb.Settings(
                **({"base_url": config.base_url} if config.base_url is not None else {}),
                init_timeout=INIT_TIMEOUT_S,
                silent=True,
                # Nothing but metrics and settings: no output, code, command line, host name or figures of the machine.
                console="off",
                disable_git=True,
                disable_code=True,
                disable_job_creation=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
                host="tuneyard",
                program="tuneyard",
            ),
        )
        self._run.define_metric(STEP, hidden=True)
        self._run.define_metric("*", step_metric=STEP)

    @property
    def url(self) -> str:
        """See TrackedRun."""
        return OFFLINE if self._run.offline else self._run.url or OFFLINE

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """See TrackedRun."""
        self._run.log({STEP: step, **metrics})

    def finish(self, summary: Mapping[str, str | float], *, succeeded: bool) -> None:
        """See TrackedRun."""
        self._run.summary.update(dict(summary))
        self._run.finish(exit_code=0 if succeeded else 1)
