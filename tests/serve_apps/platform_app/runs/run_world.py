"""A cluster's runs without Ray: a real registry, real run folders, jobs as a list; and the routes in this process."""

from __future__ import annotations

import contextlib
import json
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Ray Serve's own, when it is imported
    from serve_apps.api.model_calls import ModelDescription
    from serve_apps.gateway.running_model import RunningModel
    from tests.serve_apps.platform_app.platform_under_test import PlatformUnderTest, open_platform
    from tests.serve_apps.platform_app.served_models import ServedModels

from jobs.runs.dataset_preparation import build_report
from jobs.runs.preflight import prepare_data
from jobs.runs.run_record import RunFolder
from serve_apps.platform_app.fine_tuning.records.job_store import JobStore
from serve_apps.platform_app.fine_tuning.records.states import RunState
from serve_apps.platform_app.runs.run_jobs import RunJob, WaitingJobs
from serve_apps.platform_app.runs.run_reader import RunReader
from serve_apps.platform_app.store.platform_database import open_database
from tests.serve_apps.platform_app.fine_tuning.tuning_setup import base_options
from tuneyard.api.api_keys import KeyStore
from tuneyard.checkpoints.registry import RUN_FOLDER, ModelRegistry
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import ClusterError
from tuneyard.storage.sql.location import SqlLocation

CHATS = [
    ("How do I reset my Brindle?", "Hold the **back** button for ten seconds. 🐈"),
    ("How long is the warranty?", "Two years."),
    ("Where is my order?", "In your account, under Orders."),
]
HELDOUT = [("Can I return it?", "Yes, within 30 days.")]


@dataclass
class ListedJobs:
    """See RunJobs: the jobs that a test says."""

    jobs: list[RunJob] = field(default_factory=list)
    problem: str = ""

    async def all(self) -> Sequence[RunJob]:
        if self.problem:
            raise ClusterError(self.problem)
        return self.jobs


@dataclass
class RunWorld:
    """The registry, the jobs, and the folder of all runs. `now` is the time that the routes know."""

    folder: Path
    base: Path
    registry: ModelRegistry
    jobs: ListedJobs
    directory: ServedModels = field(default_factory=lambda: ServedModels([]))
    now: float = 0.0

    def config(self, name: str, **training: object) -> FinetuneConfig:
        """A run's config, with its data written."""
        for file, rows in (("train.jsonl", CHATS), ("heldout.jsonl", HELDOUT)):
            lines = [
                json.dumps({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]})
                for q, a in rows
            ]
            (self.folder / file).write_text("\n".join(lines), encoding="utf-8")
        return FinetuneConfig.model_validate(
            {
                "run": {"name": name, "model_name": "brindle", "storage": str(self.folder / "storage")},
                "model": {"base": str(self.base)},
                "data": {"train": str(self.folder / "train.jsonl"), "heldout": str(self.folder / "heldout.jsonl")},
                "training": {"epochs": 2.0, **training},
            }
        )

    def begin(self, name: str, **training: object) -> str:
        """Begins a run as jobs.finetune does, with its folder; returns its id in the registry."""
        config = self.config(name, **training)
        folder, _ = RunFolder.open(config, "f" * 64)
        folder.save_report(build_report(prepare_data(config), config))
        params = {f"training.{key}": str(value) for key, value in config.training.model_dump(mode="json").items()}
        return self.registry.start_run("brindle", name, params | {RUN_FOLDER: folder.location}, None)

    def log(self, run_id: str, steps: Sequence[int], total: int, epochs: float = 2.0) -> None:
        """Logs steps as a training does; every fifth one with the held-out loss."""
        self.registry.log_points(
            run_id,
            [
                (
                    step,
                    {
                        "loss": 3.0 / step + 0.5,
                        "learning_rate": 1e-4 * step / total,
                        "tokens_per_s": 900.0 + step,
                        "epoch": epochs * step / total,
                        **({"eval_loss": 3.5 / step + 0.6} if step % 5 == 0 else {}),
                    },
                )
                for step in steps
            ],
        )

    def serve(self, model_id: str, version: str, reference: str) -> None:
        """Serves a version; nothing calls it."""
        description = ModelDescription(model_id, version, 4096, 0, {}, reference)
        handle: Any = None
        self.directory.served.append(RunningModel(model_id, description, handle))

    def job(self, run: str, state: RunState, **fields: object) -> None:
        """Adds a job of a run."""
        values = {"id": f"raysubmit_{len(self.jobs.jobs)}", "message": "", "started_at": 1.0, "ended_at": None} | fields
        self.jobs.jobs.append(RunJob(run=run, state=state, **values))  # type: ignore[arg-type]


@contextmanager
def run_world(
    folder: Path, base: Path, empty_home: Path, keys: KeyStore | None = None
) -> Iterator[tuple[RunWorld, PlatformUnderTest]]:
    """The world, and the application with its routes, which has runs of the world only.

    `empty_home` holds an empty registry, which takes seconds to make and is copied.
    """
    shutil.copytree(empty_home, folder / "home")
    world = RunWorld(folder, base, ModelRegistry(folder / "home"), ListedJobs())

    async def open_registry() -> ModelRegistry:
        return world.registry

    def now() -> float:
        return world.now

    location = SqlLocation(file=folder / "platform.db")
    with contextlib.closing(open_database(location)) as database:
        reader = RunReader(open_registry, WaitingJobs(JobStore(database), world.jobs), now)
        options = {"directory": world.directory, "keys": keys, "runs": reader, **base_options(folder)}
        with open_platform(location, folder, **options) as platform:
            yield world, platform
