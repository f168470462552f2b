"""A run's own folder: its record (run.json), Ray Train's state."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from tuneyard.errors import TrainingError
from tuneyard.finetune_config import FinetuneConfig


class RunRecord(BaseModel):
    """What run.json holds, from the start of the run on; `version` and `checkpoint` once it succeeded."""

    model_config = ConfigDict(extra="forbid")

    inputs_fingerprint: str
    mlflow_run_id: str | None = None
    checkpoint: Path | None = None
    version: int | None = None


class RunFolder:
    """`<storage>/runs/<name>/`."""

    def __init__(self, config: FinetuneConfig) -> None:
        self.path = config.run.storage / "runs" / config.run.name
        self.resolved_config = self.path / "config.json"
        self._record_path = self.path / "run.json"

    @classmethod
    def open(cls, config: FinetuneConfig, inputs_fingerprint: str) -> tuple[Self, RunRecord]:
        """The folder and its record: a new one, or that of the run to resume.

        Raises TrainingError when a run of this name exists with other inputs. With `run.resume:
        false` an existing run is moved aside, never deleted.
        """
        folder = cls(config)
        if folder._record_path.exists() and not config.run.resume:
            folder._move_aside()
        record = folder._read()
        if record is None:
            record = RunRecord(inputs_fingerprint=inputs_fingerprint)
            folder.save(record)
        elif record.inputs_fingerprint != inputs_fingerprint:
            raise TrainingError(
                f"The run {config.run.name!r} in {folder.path} was started with other data, base, codec or training "
                f"settings (inputs {record.inputs_fingerprint[:12]}, now {inputs_fingerprint[:12]}). Choose another "
                "run.name, restore the old settings, or give --set run.resume=false to start over."
            )
        folder.resolved_config.write_text(config.model_dump_json(indent=2), encoding="utf-8")
        return folder, record

    def save(self, record: RunRecord) -> None:
        """Replaces run.json as a whole."""
        self.path.mkdir(parents=True, exist_ok=True)
        partial = self._record_path.with_suffix(".partial")
        partial.write_text(record.model_dump_json(indent=2), encoding="utf-8")
        partial.replace(self._record_path)

    def _read(self) -> RunRecord | None:
        try:
            return RunRecord.model_validate(json.loads(self._record_path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, ValidationError) as e:
            raise TrainingError(
                f"{self._record_path} is damaged: {e}. Give --set run.resume=false to start over."
            ) from e

    def _move_aside(self) -> None:
        self.path.rename(self.path.with_name(f"{self.path.name}.old-{time.strftime('%Y%m%d-%H%M%S')}"))
