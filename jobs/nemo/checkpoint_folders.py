"""Folders of NeMo checkpoints in a run's storage. Needs no NeMo."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import CheckpointError

POINTER = "nemo_checkpoint.json"
"""File in a reported checkpoint that holds the path of the NeMo checkpoint."""


def nemo_base(config: FinetuneConfig) -> Path:
    """Folder of the base model in NeMo 2 format, which all runs from that base share. It need not exist yet.

    Its name is a digest of the base's path and its files' names, sizes and modification times. The files' contents are
    not read, because every worker calls this. Raises CheckpointError if the base's folder holds no config.json or no
    weights.
    """
    base = config.model.folder
    weights = sorted(base.glob("*.safetensors"))
    if not weights or not (base / "config.json").is_file():
        raise CheckpointError(
            f"model.base: {base} holds no config.json or no *.safetensors on this machine, so its NeMo checkpoint "
            "cannot be found. NeMo's workers read the base from a folder that all nodes see: mount it, or correct "
            "model.base."
        )
    files = sorted([base / "config.json", *weights])
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


def write_pointer(folder: Path, checkpoint: Path) -> None:
    """Makes `folder` a reported checkpoint that points at the NeMo checkpoint `checkpoint`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / POINTER).write_text(json.dumps({"path": str(checkpoint)}), encoding="utf-8")


def read_pointer(folder: Path) -> Path:
    """Folder of the NeMo checkpoint that the pointer file in a reported checkpoint names.

    Raises CheckpointError if there is none: another backend wrote the folder.
    """
    if not (folder / POINTER).is_file():
        raise CheckpointError(
            f"{folder} is no checkpoint of a NeMo run: it has neither weights/ nor {POINTER}. Give the config of the "
            "run that wrote it."
        )
    pointer: dict[str, str] = json.loads((folder / POINTER).read_text(encoding="utf-8"))
    return Path(pointer["path"])
