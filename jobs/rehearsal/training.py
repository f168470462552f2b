"""Trains the small model on a private Ray, kills a worker after a checkpoint, and checks that the run resumes."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from jobs.nemo.checkpoint_folders import nemo_base
from jobs.rehearsal.report import RehearsalReport
from jobs.rehearsal.small_run import STEPS
from jobs.rehearsal.stages import Stage, StageWatch
from jobs.rehearsal.worker_processes.worker_death import kill_one_worker
from jobs.runs.checkpoint_export import reported_results
from jobs.runs.prepared_run import PreparedRun
from jobs.runs.ray_training import TrainOutcome, train_on_ray
from jobs.runs.run_record import RunFolder
from tuneyard.checkpoints.registry import ModelRegistry
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import CheckpointError, TrainingError

IMPORT, TRAIN, CHECKPOINT, RESUME = "import", "train", "checkpoint", "resume"

LOSS_TOLERANCE = 1e-3
"""Nats by which the loss of a repeated step may differ. transformers rounds the losses that it logs to 1e-4."""

Points = list[tuple[int, dict[str, float]]]


def stage_names(config: FinetuneConfig) -> tuple[str, ...]:
    """The names of the stages of a rehearsed training, in order."""
    return ((IMPORT,) if config.training.backend == "nemo" else ()) + (TRAIN, CHECKPOINT, RESUME)


def rehearse_training(
    report: RehearsalReport,
    config: FinetuneConfig,
    prepared: PreparedRun,
    folder: RunFolder,
    registry: ModelRegistry,
    run_id: str,
    progress: TextIO,
) -> TrainOutcome | None:
    """Trains and adds the stages to the report. Returns the checkpoint to export; None if a stage failed.

    Ray must be connected to a private Ray. `progress` gets the progress of the training.
    """
    rehearsed = _RehearsedTraining(config, folder)
    outcome = None

    def log(points: Points) -> None:
        rehearsed.points += points
        registry.log_points(run_id, points)

    with StageWatch(report, rehearsed.stages()) as watch:
        try:
            outcome = train_on_ray(config, prepared, folder, log, progress)
        except TrainingError as e:
            # Without the line that says how to continue the run: this one is thrown away.
            raise (e.__cause__ if isinstance(e.__cause__, TrainingError) else e) from None
    return outcome if watch.passed else None


class _RehearsedTraining:
    """What is known about the running training, and its stages."""

    def __init__(self, config: FinetuneConfig, folder: RunFolder) -> None:
        assert folder.storage.local is not None  # a scratch folder
        self._config = config
        self._folder: Path = folder.storage.local
        self._killed = False
        self._checkpoint_step = 0
        self.points: Points = []

    def stages(self) -> list[Stage]:
        known = {
            IMPORT: Stage(IMPORT, lambda: nemo_base(self._config).exists(), lambda: "the base is in NeMo's format"),
            TRAIN: Stage(TRAIN, self._has_trained, lambda: f"{self._config.workers.num_workers} workers take steps"),
            CHECKPOINT: Stage(CHECKPOINT, self._has_checkpoint, lambda: f"after step {self._checkpoint_step}"),
            RESUME: Stage(RESUME, self._has_resumed, self._describe_resumption),
        }
        return [known[name] for name in stage_names(self._config)]

    def _checkpoints(self) -> list[int]:
        """The steps of the checkpoints that Ray Train has now."""
        try:
            return [int(result["metrics"]["step"]) for result in reported_results(self._folder) if result]
        except CheckpointError:  # Ray is writing the file
            return []

    def _has_trained(self) -> bool:
        return bool(self.points or self._checkpoints())

    def _has_checkpoint(self) -> bool:
        """Kills a worker as soon as there is a checkpoint to resume from."""
        steps = self._checkpoints()
        if steps:
            self._checkpoint_step = max(steps)
            self._killed = kill_one_worker()
        return bool(steps)

    def _has_resumed(self) -> bool:
        """Raises TrainingError unless the run lost a worker and went on from the checkpoint, with the same losses."""
        if not self._killed:
            raise TrainingError("No worker could be killed: the run ended too soon. Start the rehearsal again.")
        # With dropout, a repeated step may draw other numbers.
        check_resumption(self.points, self._checkpoint_step, compares=self._config.training.lora.dropout == 0)
        return True

    def _describe_resumption(self) -> str:
        losses = _losses(self.points)
        steps = [step for step, _ in losses]
        repeated = sorted({step for step in steps if steps.count(step) > 1})
        again = f", and repeated step {', '.join(map(str, repeated))} with the same loss" if repeated else ""
        return (
            f"a worker was killed; the run continued from the checkpoint of step {self._checkpoint_step}{again}; "
            f"loss {losses[0][1]:.3f} to {losses[-1][1]:.3f}"
        )


def check_resumption(points: Points, checkpoint_step: int, *, compares: bool) -> None:
    """Raises TrainingError unless `points` are those of a run of STEPS steps that continued after a worker's death.

    `checkpoint_step` is the step of the checkpoint that there was. `compares` says that a repeated step must have the
    loss that it had before.
    """
    if checkpoint_step >= STEPS:
        raise TrainingError(
            f"The worker was killed after the last step, {checkpoint_step}, so no step shows that the run continues. "
            "Start the rehearsal again."
        )
    losses = _losses(points)
    steps = [step for step, _ in losses]
    if steps.count(1) > 1:
        raise TrainingError(
            f"After a worker's death the run began again with step 1, although it had a checkpoint of step "
            f"{checkpoint_step}. A real run would lose all its steps."
        )
    if sorted(set(steps)) != list(range(1, STEPS + 1)):
        raise TrainingError(f"After a worker's death the run reported the steps {steps}, not all of 1 to {STEPS}.")
    first = dict(reversed(losses))
    different = [(step, loss) for step, loss in losses if abs(loss - first[step]) > LOSS_TOLERANCE]
    if compares and different:
        step, loss = different[0]
        raise TrainingError(
            f"After a worker's death the run repeated step {step} with the loss {loss:.4f} instead of "
            f"{first[step]:.4f}: it did not continue where it was."
        )


def _losses(points: Points) -> list[tuple[int, float]]:
    """The steps and losses of the points that have a loss: evaluations have none."""
    return [(step, metrics["loss"]) for step, metrics in points if "loss" in metrics]
