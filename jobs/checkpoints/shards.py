"""Reads a checkpoint's weights tensor by tensor and writes them shard by shard, in the memory of one shard."""

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
    """Reads tensors by name from all *.safetensors files of a checkpoint folder.

    Raises CheckpointError when the folder has none.
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
        """The names of all tensors, sorted, so that the tensors of a layer follow each other."""
        return sorted(self._files)

    def read(self, name: str) -> torch.Tensor:
        """Reads one tensor. Raises CheckpointError when the checkpoint has none of that name."""
        if name not in self._files:
            raise CheckpointError(f"{name}: the checkpoint has no such tensor.")
        with safe_open(self._files[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
        return tensor

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading its values."""
        with safe_open(self._files[name], framework="pt") as file:
            return tuple(file.get_slice(name).get_shape())

    def read_rows(self, name: str) -> Iterator[torch.Tensor]:
        """Yields a tensor's slices along its first axis, and reads one at a time."""
        with safe_open(self._files[name], framework="pt") as file:
            tensor_slice = file.get_slice(name)
            for row in range(tensor_slice.get_shape()[0]):
                yield tensor_slice[row]


class ShardWriter:
    """Writes tensors, in the order of `add`, to safetensors files of about `shard_bytes` bytes.

    Call `close` at the end: only then do the files have their final names.
    """

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder = folder
        self._shard_bytes = shard_bytes
        self._pending: dict[str, torch.Tensor] = {}
        self._pending_bytes = 0
        self._shards: list[list[str]] = []
        self._total_bytes = 0

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Adds a tensor. It stays in memory until its shard is full and written."""
        if self._pending and self._pending_bytes + tensor.nbytes > self._shard_bytes:
            self._write_shard()
        self._pending[name] = tensor.contiguous()
        self._pending_bytes += tensor.nbytes

    def close(self) -> None:
        """Writes the last shard, gives the files the names that loaders expect, and writes the index.

        A single file is named model.safetensors and needs no index.
        """
        self._write_shard()
        count = len(self._shards)
        if count == 1:
            self._unnamed_shard(0).rename(self._folder / "model.safetensors")
            return
        weight_map: dict[str, str] = {}
        for index, names in enumerate(self._shards):
            file = f"model-{index + 1:05d}-of-{count:05d}.safetensors"
            self._unnamed_shard(index).rename(self._folder / file)
            weight_map |= dict.fromkeys(names, file)
        listing = {"metadata": {"total_size": self._total_bytes}, "weight_map": dict(sorted(weight_map.items()))}
        (self._folder / INDEX_NAME).write_text(json.dumps(listing, indent=2) + "\n", encoding="utf-8")

    def _unnamed_shard(self, index: int) -> Path:
        """A shard's file until `close`: its final name holds the number of shards."""
        return self._folder / f"part-{index}.safetensors"

    def _write_shard(self) -> None:
        if not self._pending:
            return
        save_file(self._pending, self._unnamed_shard(len(self._shards)), metadata={"format": "pt"})
        self._shards.append(list(self._pending))
        self._total_bytes += self._pending_bytes
        self._pending, self._pending_bytes = {}, 0
