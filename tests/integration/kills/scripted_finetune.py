"""What the clusters of these tests run as `python -m jobs.finetune`: by the job's seed, the real run or a script.

    python scripted_finetune.py JOURNAL CHECKPOINT -m jobs.finetune --config env:TUNEYARD_CONFIG

A scripted run trains nothing: its steps are pauses, and its model is a copy of CHECKPOINT. All else is the product's:
the run's folder, the registry, the publication, and that a run which is begun again goes on where it was. JOURNAL gets
a line for the begin of each attempt, real or scripted, and for each step of a script.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

REAL, SCRIPTED, FAILING = 1, 2, 3
"""Kinds of jobs: the thousands of their seed."""

STEPS = 4
STEP_S = 0.7
STATE = "script.json"


def seed_of(kind: int, number: int) -> int:
    """The seed of the job with this number, 0 to 999."""
    return kind * 1000 + number


class Journal:
    """Lines of JSON about the attempts of one job, which several processes append to a file."""

    def __init__(self, path: Path, job: str) -> None:
        self._path = path
        self._job = job

    def add(self, event: str, **values: Any) -> None:
        line = {"job": self._job, "event": event, "pid": os.getpid(), "time": time.time()} | values
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def live_attempts(self) -> list[int]:
        """The process ids of attempts that were begun and still run."""
        lines = read_journal(self._path)
        return [
            line["pid"]
            for line in lines
            if (line["job"], line["event"]) == (self._job, "begin")
            and line["pid"] != os.getpid()
            and _runs(line["pid"])
        ]


def read_journal(path: Path) -> list[dict[str, Any]]:
    """All lines so far."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _runs(pid: int) -> bool:
    """Whether the process runs a job. The command line of one that has ended is empty, or another's."""
    try:
        return b"finetune" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def main() -> int:
    """Entry point; returns the exit code."""
    journal_path, checkpoint, *command = sys.argv[1:]
    content = os.environ["TUNEYARD_CONFIG"]
    run = json.loads(content)
    kind = run["training"]["seed"] // 1000
    journal = Journal(Path(journal_path), run["run"]["name"])
    journal.add("begin", live=journal.live_attempts())
    if kind == REAL:
        os.execv(sys.executable, [sys.executable, *command])
    return play(content, Path(checkpoint), journal, fails=kind == FAILING)


def play(content: str, checkpoint: Path, journal: Journal, *, fails: bool) -> int:
    """The scripted run. The order of its writes is that of jobs.runs.finetuning."""
    from jobs.runs.registration import find_finished_version, find_published, register_checkpoint
    from jobs.runs.run_record import RunFolder
    from tuneyard.checkpoints.registry import TRAIN_TOKENS, ModelRegistry
    from tuneyard.configs.finetune import FinetuneConfig

    config = FinetuneConfig.model_validate_json(content)
    folder, record = RunFolder.open(config, "scripted")
    registry = ModelRegistry()
    if find_finished_version(record, registry, config) is not None:
        return 0
    names = (config.run.model_name, config.run.name)
    run_id = record.mlflow_run_id = registry.start_run(*names, {TRAIN_TOKENS: "100"}, record.mlflow_run_id)
    folder.save(record)
    done = json.loads(folder.storage.read(STATE) or b'{"step": 0}')["step"]
    for step in range(done + 1, STEPS + 1):
        time.sleep(STEP_S)
        if fails and step == STEPS:
            registry.end_run(run_id, succeeded=False)
            print("error: this run fails by its script", file=sys.stderr)
            return 1
        folder.storage.write(STATE, json.dumps({"step": step}).encode())
        epoch = step / STEPS * config.training.epochs
        registry.log_points(run_id, [(step, {"loss": 2.0 / step, "epoch": epoch})])
        journal.add("step", step=step)
    published = find_published(config, run_id, STEPS) or publish_copy(checkpoint, config, run_id)
    register_checkpoint(registry, config, *published, record)
    registry.end_run(run_id, succeeded=True)
    folder.save(record)
    return 0


def publish_copy(checkpoint: Path, config: Any, run_id: str) -> Any:
    """Publishes the checkpoint as the run's; returns its manifest and location."""
    from tuneyard.checkpoints.manifest import MANIFEST_NAME, read_manifest
    from tuneyard.checkpoints.publishing import next_version_location, publish, staged, version_in

    target = next_version_location(f"{config.run.storage}/models/{config.run.model_name}", run_id)
    with staged(target) as staging:
        shutil.copytree(checkpoint, staging, dirs_exist_ok=True)
        changes = {"name": config.run.model_name, "version": version_in(target), "run_id": run_id}
        manifest = read_manifest(checkpoint).model_copy(update={**changes, "metrics": {"step": float(STEPS)}})
        (staging / MANIFEST_NAME).write_text(manifest.model_dump_json(), encoding="utf-8")
        publish(staging, target)
    return manifest, target


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    sys.exit(main())
