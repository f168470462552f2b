"""A run's folder `<storage>/runs/<name>/`: its record, its config, its data report, and Ray Train's state."""

from __future__ import annotations

import json
import time
from typing import Self

from tuneyard.configs.finetune import CONFIG_NAME, FinetuneConfig
from tuneyard.core.errors import TrainingError
from tuneyard.core.strict_model import StrictModel
from tuneyard.storage.folder import StorageFolder
from tuneyard.training_data.report.data_report import REPORT_NAME, DataReport

RECORD_NAME = "run.json"
TRAIN_STATE = "ray_train"
"""Subfolder where Ray Train keeps its state and the run's checkpoints."""


class RunRecord(StrictModel):
    """The content of run.json. It is written when the run starts; `checkpoint` and `version` when it succeeds."""

    inputs_fingerprint: str
    mlflow_run_id: str | None = None
    checkpoint: str | None = None
    version: int | None = None

    @classmethod
    def parse(cls, content: bytes, path: str, fix: str) -> Self:
        """The record from the content of run.json. Raises TrainingError, with `fix`, if this version cannot read it."""
        try:
            return cls.model_validate(json.loads(content))
        except ValueError as e:
            raise TrainingError(f"{path} is damaged, or of another version of Tuneyard: {e}. {fix}") from e


class RunFolder:
    """The folder of the run that a config names."""

    def __init__(self, config: FinetuneConfig) -> None:
        self.name = config.run.name
        self.storage = StorageFolder.open(config.run.storage).child("runs", config.run.name)

    @property
    def location(self) -> str:
        """The folder's path or URI."""
        return self.storage.location

    @property
    def train_state(self) -> StorageFolder:
        """Where Ray Train keeps its own state and the run's checkpoints."""
        return self.storage.child(TRAIN_STATE)

    @classmethod
    def open(cls, config: FinetuneConfig, inputs_fingerprint: str) -> tuple[Self, RunRecord]:
        """The run's folder and its record: a new record, or that of the run to resume.

        With `run.resume: false` an existing folder is renamed to `<name>.old-<time>`, never deleted. Raises
        TrainingError when a run of this name exists with other inputs, when its record is damaged, and when a folder
        on an object store would have to be renamed.
        """
        folder = cls(config)
        if not config.run.resume and folder.storage.size_of(RECORD_NAME) is not None:
            folder._move_aside()
        record = folder.find(inputs_fingerprint)
        if record is None:
            record = RunRecord(inputs_fingerprint=inputs_fingerprint)
            folder.save(record)
        folder.storage.write(CONFIG_NAME, config.model_dump_json(indent=2).encode())
        return folder, record

    def find(self, inputs_fingerprint: str) -> RunRecord | None:
        """The record of the run to resume; None if there is no run of this name yet. Writes nothing.

        Raises TrainingError when the run was started with other inputs, and when its record is damaged.
        """
        record = self._read()
        if record is not None and record.inputs_fingerprint != inputs_fingerprint:
            raise TrainingError(
                f"The run {self.name!r} in {self.location} was started with other data, base, codec or training "
                f"settings (inputs {record.inputs_fingerprint[:12]}, now {inputs_fingerprint[:12]}). Choose another "
                "run.name, restore the old settings, or start over with --set run.resume=false."
            )
        return record

    def save(self, record: RunRecord) -> None:
        """Replaces run.json; a reader sees the old record or the new one."""
        self.storage.write(RECORD_NAME, record.model_dump_json(indent=2).encode())

    def save_report(self, report: DataReport) -> None:
        """Replaces data.json."""
        self.storage.write(REPORT_NAME, report.model_dump_json().encode())

    def _read(self) -> RunRecord | None:
        content = self.storage.read(RECORD_NAME)
        if content is None:
            return None
        fix = "Start the run over with --set run.resume=false."
        return RunRecord.parse(content, f"{self.location}/{RECORD_NAME}", fix)

    def _move_aside(self) -> None:
        folder = self.storage.local
        if folder is None:
            raise TrainingError(
                f"{self.location}: run.resume=false cannot move this run aside, because on an object store that would "
                "copy every checkpoint. To start over, choose another run.name."
            )
        folder.rename(folder.with_name(f"{self.name}.old-{time.strftime('%Y%m%d-%H%M%S')}"))
