"""Fixture of a finished run: tiny-oss-random finetuned on a few chats by two Ray Train workers; logs in failures."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from tests.integration.processes import run, take_logs
from tuneyard.checkpoints.manifest import CheckpointManifest, read_manifest
from tuneyard.core.atomic_files import write_atomically

DATA = Path("jobs/data")
STEPS = 12


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The report of a failed test has the logs of the commands that it used: a server's answer may name no cause."""
    report = yield
    logs = take_logs() if report.failed else []
    report.sections.extend(logs)
    return report


@dataclass(frozen=True)
class Finetuned:
    """Folders and output of a finished run."""

    folder: Path
    home: Path
    config: Path
    output: str

    @property
    def checkpoint(self) -> Path:
        return self.home / "models" / "tiny-support" / "1"

    @property
    def manifest(self) -> CheckpointManifest:
        return read_manifest(self.checkpoint)


def write_finetune_config(folder: Path, base: Path, sections: dict[str, Any] | None = None, **training: Any) -> Path:
    """Writes config and data of a run of STEPS steps with a checkpoint every 4, in a folder with a space in its name.

    `sections` replaces whole sections of the config, `training` fields of its section `training`. Returns the config's
    path.
    """
    folder = folder / "a run"
    folder.mkdir(parents=True)
    for name, rows in (("train", 30), ("heldout", 6)):
        lines = (DATA / f"brindle_{name}.jsonl").read_text(encoding="utf-8").splitlines()[:rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config: dict[str, Any] = {
        "run": {"name": "tiny", "model_name": "tiny-support"},
        "model": {"base": str(base)},
        "data": {"train": "train.jsonl", "heldout": "heldout.jsonl", "max_length": 1024},
        "training": {
            "max_steps": STEPS,
            "learning_rate": 0.005,
            "batch_size_per_worker": 2,
            "checkpoint_every_steps": 4,
            "eval_every_steps": 6,
            **training,
        },
        "workers": {"num_workers": 2},
    }
    config |= sections or {}
    path = folder / "finetune.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def finetune_command(config: Path, *more: str) -> tuple[str, ...]:
    """The arguments of `python` that run the config on a private Ray."""
    return ("-m", "jobs.finetune", "--config", str(config), "--address", "local", *more)


@pytest.fixture(scope="session")
def finetuned(tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory, testrun_uid: str, worker_id: str) -> Finetuned:
    """A finished run, which registered `tiny-support/1` in its own TUNEYARD_HOME. Do not change it.

    The processes of pytest-xdist share one.
    """
    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / f"finetuned-{testrun_uid}"
    folder.mkdir(exist_ok=True)
    home, log = folder / "home", folder / "output"
    with FileLock(folder / "lock"):
        if not log.exists():
            config = write_finetune_config(folder, tiny_oss)
            code, output = run(folder, home, *finetune_command(config))
            assert code == 0, output
            write_atomically(log, output)
    return Finetuned(folder, home, folder / "a run" / "finetune.yaml", log.read_text(encoding="utf-8"))
