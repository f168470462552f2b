"""Where NeMo's checkpoints lie on a run's storage. No NeMo is needed to look there."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tuneyard.configs.finetune import FinetuneConfig


def nemo_base(config: FinetuneConfig) -> Path:
    """Where the base lies in NeMo 2 format, for all runs that start from it.

    Named by what tells one base from another without reading its weights: every worker asks.
    """
    base = config.model.folder
    files = sorted([base / "config.json", *base.glob("*.safetensors")])
    told = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    digest = hashlib.sha256(repr((str(base), told)).encode()).hexdigest()
    return config.run.folder / "nemo" / digest[:16]


def checkpoint_folder(config: FinetuneConfig) -> Path:
    """Where a run's NeMo checkpoints lie."""
    return config.run.folder / "runs" / config.run.name / "nemo"


def step_folder(folder: Path, step: int) -> Path:
    """The checkpoint of a step."""
    return folder / f"step-{step:07d}"


def written_checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints, the oldest first."""
    found = sorted(path for path in folder.glob("step-*") if path.is_dir())
    return [path for path in found if not path.with_name(f"{path.name}-unfinished").exists()]
