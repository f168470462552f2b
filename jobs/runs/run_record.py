"""A run's own folder: its record (run.json), Ray Train's state."""

from __future__ import annotations

import json
import time
from typing import Self

from pydantic import ValidationError

from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import TrainingError
from tuneyard.core.strict_model import StrictModel
from tuneyard.storage.folder import StorageFolder

RECORD_NAME, CONFIG_NAME = "run.json", "config.json"
TRAIN_STATE = "ray_train"


class RunRecord(StrictModel):
    """What run.json holds, from the start of the run on; `version` and `checkpoint` once it succeeded."""

    inputs_fingerprint: str
    mlflow_run_id: str | None = None
    checkpoint: str | None = None
    version: int | None = None


class RunFolder:
    """`<storage>/runs/<name>/`."""

    def __init__(self, config: FinetuneConfig) -> None:
        self.name = config.run.name
        self.storage = StorageFolder.open(config.run.storage).child("runs", config.run.name)

    @property
    def location(self) -> str:
        """Path or URI, for people too."""
        return self.storage.location

    @classmethod
    def open(cls, config: FinetuneConfig, inputs_fingerprint: str) -> tuple[Self, RunRecord]:
        """The folder and its record: a new one, or that of the run to resume.

        Raises TrainingError when a run of this name exists with other inputs. With `run.resume:
        false` an existing run is moved aside, never deleted.
        """
        folder = cls(config)
        if not config.run.resume and folder.storage.size_of(RECORD_NAME) is not None:
            folder._move_aside()
        record = folder._read()
        if record is None:
            record = RunRecord(inputs_fingerprint=inputs_fingerprint)
            folder.save(record)
        elif record.inputs_fingerprint != inputs_fingerprint:
            raise TrainingError(
                f"The run {config.run.name!r} in {folder.location} was started with other data, base, codec or "
                f"training settings (inputs {record.inputs_fingerprint[:12]}, now {inputs_fingerprint[:12]}). Choose "
                "another run.name, restore the old settings, or give --set run.resume=false to start over."
            )
        folder.storage.write(CONFIG_NAME, config.model_dump_json(indent=2).encode())
        return folder, record

    def save(self, record: RunRecord) -> None:
        """Replaces run.json as a whole."""
        self.storage.write(RECORD_NAME, record.model_dump_json(indent=2).encode())

    def _read(self) -> RunRecord | None:
        content = self.storage.read(RECORD_NAME)
        if content is None:
            return None
        try:
            return RunRecord.model_validate(json.loads(content))
        except (ValueError, ValidationError) as e:
            raise TrainingError(
                f"{self.location}/{RECORD_NAME} is damaged: {e}. Give --set run.resume=false to start over."
            ) from e

    def _move_aside(self) -> None:
        folder = self.storage.local
        if folder is None:
            raise TrainingError(
                f"{self.location}: a run's folder on an object store is not moved, which would copy every checkpoint. "
                "To start over choose another run.name."
            )
        folder.rename(folder.with_name(f"{self.name}.old-{time.strftime('%Y%m%d-%H%M%S')}"))


def train_state(config: FinetuneConfig) -> StorageFolder:
    """Where Ray Train keeps its own state and the run's checkpoints."""
    return RunFolder(config).storage.child(TRAIN_STATE)
