"""The application with a base, on a cluster in this process."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import openai
import yaml

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Ray Serve's own, when it is imported
    from serve_apps.gateway.model_directory import ModelDirectory

from serve_apps.gateway.alias_cache import AliasCache
from serve_apps.gateway.owned_models import OwnedModels
from serve_apps.gateway.running_model import RunningModel
from serve_apps.platform_app.fine_tuning.part import FineTuningPart
from serve_apps.platform_app.tuned_models.part import CHECK_INTERVAL_S
from tests.serve_apps.platform_app.fine_tuning.cluster_in_process import ClusterInProcess
from tests.serve_apps.platform_app.platform_under_test import PlatformUnderTest

BASE, ALIAS = "tiny", "gpt-4o-mini-2024-07-18"


def base_options(folder: Path, training: dict[str, Any] | None = None, **base: Any) -> dict[str, Any]:
    """The option `bases` of PlatformConfig: the base BASE with a template in `folder`. `base` are fields of it, without
    which jobs have the model at their end only."""
    template = {
        "run": {"name": "template", "model_name": "template", "storage": str(folder / "storage")},
        "model": {"base": str(folder / "base")},
        "data": {"train": "none.jsonl", "max_length": 256},
        "training": {"batch_size_per_worker": 2, "learning_rate": 0.001} | (training or {}),
        "workers": {"num_workers": 2},
    }
    path = folder / "template.yaml"
    path.write_text(yaml.safe_dump(template), encoding="utf-8")
    return {"bases": {BASE: {"config": str(path), "aliases": (ALIAS,), "checkpoints": 1, **base}}}


def chat_rows(count: int, start: int = 0) -> bytes:
    """A file of different chats in OpenAI's format."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"question {number}"},
                {"role": "assistant", "content": f"answer {number}"},
            ]
        }
        for number in range(start, start + count)
    ]
    return ("\n".join(map(json.dumps, rows)) + "\n").encode()


async def upload(client: openai.AsyncOpenAI, content: bytes | None = None, purpose: Any = "fine-tune") -> str:
    """The id of a new file, by default with 12 chats."""
    file = await client.files.create(file=("chats.jsonl", content or chat_rows(12)), purpose=purpose)
    return file.id


class NoDeployedModels(ModelDirectory):
    """A directory on a cluster that serves no model of its own; `owned` are those of single owners."""

    def __init__(self, owned: OwnedModels | None = None) -> None:
        super().__init__(AliasCache(lambda _: None), owned)

    async def models(self) -> list[RunningModel]:
        """See ModelDirectory."""
        return []


class Work:
    """The reconciler of an application under test, step by step, and the cluster's clock."""

    def __init__(self, platform: PlatformUnderTest, cluster: ClusterInProcess) -> None:
        self.platform = platform
        self.cluster = cluster
        self._now = 1.0

    async def step(self) -> None:
        """One step of every part, with all steps of jobs that it begins."""
        self._now += CHECK_INTERVAL_S
        for part in self.platform.parts:
            await part.reconcile(self._now)
            if isinstance(part, FineTuningPart):
                await part.settle()

    async def run(self, steps: int = 12) -> None:
        """Steps until everything that can end has ended; the runs train meanwhile."""
        for _ in range(steps):
            await self.step()
            for run_id in self.cluster.live_runs():
                self.cluster.finish(run_id)
