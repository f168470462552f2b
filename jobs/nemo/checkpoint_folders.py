"""Folders of NeMo checkpoints in a run's storage. Needs no NeMo."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tuneyard.configs.finetune import FinetuneConfig


def nemo_base(config: FinetuneConfig) -> Path:
    """Folder of the base model in NeMo 2 format, which all runs from that base share. It need not exist yet.

    Its name is a digest of the base's path and its files' names, sizes and modification times. The files' contents are
    not read, because every worker calls this.
    """
    base = config.model.folder
    files = sorted([base / "config.json", *base.glob("*.safetensors")])
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    digest = hashlib.sha256(repr((str(base), stats)).encode()).hexdigest()
    return config.run.folder / "nemo" / digest[:16]


def checkpoint_folder(config: FinetuneConfig) -> Path:
    """Folder of all of a run's NeMo checkpoints."""
    return config.run.folder / "runs" / config.run.name / "nemo"


def step_folder(folder: Path, step: int) -> Path:
    """Folder of the checkpoint after `step` optimizer steps; `folder` is checkpoint_folder(config)."""
    return folder / f"step-{step:07d}"


def finished_checkpoints(folder: Path) -> list[Path]:
    """The completely written checkpoints in `folder`, oldest first.

    NeMo keeps a marker `NAME-unfinished` beside a checkpoint while it writes it.
    """
    checkpoints = sorted(path for path in folder.glob("step-*") if path.is_dir())
    return [path for path in checkpoints if not path.with_name(f"{path.name}-unfinished").exists()]
