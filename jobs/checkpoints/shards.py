"""Weights read tensor by tensor and written shard by shard: memory holds one shard, however large the model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tuneyard.checkpoints.validation import INDEX_NAME
from tuneyard.core.errors import CheckpointError

SHARD_BYTES = 2_000_000_000


class TensorReader:
    """The tensors of a checkpoint folder, wherever its files hold them.

    Raises CheckpointError when the folder holds no weights.
    """

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, Path] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, framework="pt") as file:
                self._files |= dict.fromkeys(file.keys(), path)
        if not self._files:
            raise CheckpointError(f"{folder}: holds no *.safetensors.")

    @property
    def names(self) -> list[str]:
        """Sorted, which keeps the tensors of a layer together."""
        return sorted(self._files)

    def read(self, name: str) -> torch.Tensor:
        """One tensor. Raises CheckpointError when there is none of that name."""
        if name not in self._files:
            raise CheckpointError(f"{name}: not in the checkpoint.")
        with safe_open(self._files[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
        return tensor

    def shape(self, name: str) -> tuple[int, ...]:
        """Its shape, without reading it."""
        with safe_open(self._files[name], framework="pt") as file:
            return tuple(file.get_slice(name).get_shape())

    def read_rows(self, name: str) -> Iterator[torch.Tensor]:
        """A tensor's slices along its first axis, one at a time."""
        with safe_open(self._files[name], framework="pt") as file:
            part = file.get_slice(name)
            for row in range(part.get_shape()[0]):
                yield part[row]


class ShardWriter:
    """Writes tensors in the order in which they come, in files of about `shard_bytes`."""

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder = folder
        self._shard_bytes = shard_bytes
        self._waiting: dict[str, torch.Tensor] = {}
        self._waiting_bytes = 0
        self._shards: list[list[str]] = []
        self._total_bytes = 0

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Takes a tensor; what it takes in memory is free after the shard is written."""
        if self._waiting and self._waiting_bytes + tensor.nbytes > self._shard_bytes:
            self._write()
        self._waiting[name] = tensor.contiguous()
        self._waiting_bytes += tensor.nbytes

    def close(self) -> None:
        """Writes what waits, names the files, and writes the index; a single file needs none."""
        self._write()
        count = len(self._shards)
        if count == 1:
            self._part(0).rename(self._folder / "model.safetensors")
            return
        weight_map: dict[str, str] = {}
        for index, names in enumerate(self._shards):
            file = f"model-{index + 1:05d}-of-{count:05d}.safetensors"
            self._part(index).rename(self._folder / file)
            weight_map |= dict.fromkeys(names, file)
        listing = {"metadata": {"total_size": self._total_bytes}, "weight_map": dict(sorted(weight_map.items()))}
        (self._folder / INDEX_NAME).write_text(json.dumps(listing, indent=2) + "\n", encoding="utf-8")

    def _part(self, index: int) -> Path:
        return self._folder / f"part-{index}.safetensors"

    def _write(self) -> None:
        if not self._waiting:
            return
        save_file(self._waiting, self._part(len(self._shards)), metadata={"format": "pt"})
        self._shards.append(list(self._waiting))
        self._total_bytes += self._waiting_bytes
        self._waiting, self._waiting_bytes = {}, 0
