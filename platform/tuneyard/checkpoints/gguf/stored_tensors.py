"""StoredTensors: the tensors of a checkpoint folder, mapped into memory and read piece by piece, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tuneyard.checkpoints.layout.safetensors_header import read_header
from tuneyard.core.errors import CheckpointError

_NUMPY_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
}
"""numpy knows no bfloat16: its bits are read as 16-bit integers."""


class StoredTensors:
    """The tensors of all *.safetensors files of a folder, by name.

    Raises CheckpointError when the folder has none, or a header is broken.
    """

    def __init__(self, folder: Path) -> None:
        self._places: dict[str, tuple[Path, int, str, tuple[int, ...]]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with path.open("rb") as file:
                header, raw = read_header(path, file)
            for name, spec in header.items():
                offset = len(raw) + spec["data_offsets"][0]
                self._places[name] = (path, offset, spec["dtype"], tuple(spec["shape"]))
        if not self._places:
            raise CheckpointError(f"{folder}: holds no *.safetensors.")

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor. Raises CheckpointError if there is none of that name."""
        return self._place(name)[3]

    def dtype(self, name: str) -> str:
        """The dtype of a tensor as safetensors spells it. Raises CheckpointError if there is none of that name."""
        return self._place(name)[2]

    def mapped(self, name: str) -> np.ndarray:
        """The tensor as a read-only view of its file: BF16 as its bits (uint16). Read parts of it, and copy them.

        Raises CheckpointError if there is none of that name, and for a dtype that GPT-OSS checkpoints do not have.
        """
        path, offset, dtype, shape = self._place(name)
        if dtype not in _NUMPY_DTYPES:
            raise CheckpointError(
                f"{path}: {name} is {dtype}; weights must be {', '.join(_NUMPY_DTYPES)}. Export the checkpoint again."
            )
        return np.memmap(path, dtype=_NUMPY_DTYPES[dtype], mode="r", offset=offset, shape=shape)

    def _place(self, name: str) -> tuple[Path, int, str, tuple[int, ...]]:
        if name not in self._places:
            raise CheckpointError(f"{name}: the checkpoint has no such tensor. Copy or export it again.")
        return self._places[name]


def as_float32(values: np.ndarray, dtype: str) -> np.ndarray:
    """fp32 values of a piece of StoredTensors.mapped, in memory of their own."""
    if dtype == "BF16":
        bits: np.ndarray = values.astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)
    return values.astype(np.float32)
