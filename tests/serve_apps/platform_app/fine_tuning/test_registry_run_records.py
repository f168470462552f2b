"""The metrics of a run, read from a real registry while the run logs more."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_apps.platform_app.fine_tuning.execution.registry_run_records import RegistryRunRecords
from serve_apps.platform_app.fine_tuning.execution.run_records import TrainingRecord
from tuneyard.checkpoints.registry import TRAIN_TOKENS, LoggedPoint, ModelRegistry

JOB = "ftjob-1"


class GrowingRegistry(ModelRegistry):
    """A registry whose run logs two steps more each time that one of its metrics is read."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.run_id = self.start_run(JOB, "run", {TRAIN_TOKENS: 77}, None)
        self.steps = 0

    def log_steps(self, count: int) -> None:
        """Each with a measurement on the held-out rows, logged as a run does."""
        new = range(self.steps + 1, self.steps + count + 1)
        self.steps += count
        self.log_points(
            self.run_id,
            [
                (step, values)
                for step in new
                for values in ({"loss": 1.0 / step, "epoch": step / 10}, {"eval_loss": 2.0 / step, "epoch": step / 10})
            ],
        )

    def points(self, run_id: str, name: str) -> list[LoggedPoint]:
        found = super().points(run_id, name)
        self.log_steps(2)
        return found


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> GrowingRegistry:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return GrowingRegistry(tmp_path_factory.mktemp("registry"))


async def read(registry: ModelRegistry, after_step: int) -> TrainingRecord:
    async def open_registry() -> ModelRegistry:
        return registry

    record = await RegistryRunRecords(open_registry).training(JOB, after_step)
    assert record is not None
    return record


async def test_every_step_is_read_once_and_as_a_whole(registry: GrowingRegistry) -> None:
    assert (await read(registry, 0)).points == []
    registry.log_steps(3)
    read_steps: list[int] = []
    for _ in range(3):
        record = await read(registry, read_steps[-1] if read_steps else 0)
        assert record.train_tokens == 77
        read_steps += [point.step for point in record.points]
        for point in record.points:
            expected = {"loss": 1.0 / point.step, "epoch": point.step / 10, "eval_loss": 2.0 / point.step}
            assert point.values == pytest.approx(expected)
    assert read_steps == list(range(1, registry.steps - 5))
    assert await read(registry, registry.steps) == TrainingRecord([], 77)


async def test_without_a_run_there_is_no_record(registry: GrowingRegistry) -> None:
    async def open_registry() -> ModelRegistry:
        return registry

    assert await RegistryRunRecords(open_registry).training("ftjob-2", 0) is None
