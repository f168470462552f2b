"""The tensors of a GGUF file, encoded piece by piece from those of a checkpoint: gate and up apart, rows of inputs.

Needs the package gguf, which encodes Q8_0 and BF16 and decodes MXFP4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tuneyard.checkpoints.gguf.gguf_types import BLOCK_BYTES, GgufType, encoded_bytes, matrix_dtype
from tuneyard.checkpoints.gguf.mxfp4_blocks import to_gguf
from tuneyard.checkpoints.gguf.names import FIRST_OF_PAIR, gguf_names
from tuneyard.checkpoints.gguf.stored_tensors import StoredTensors, as_float32
from tuneyard.checkpoints.layout.gpt_oss import (
    expected_mxfp4_tensors,
    expected_tensors,
    is_expert_matrix,
    is_mxfp4,
)
from tuneyard.core.errors import CheckpointError

PIECE_VALUES = 2**22
"""Values of a plain tensor that are encoded at once: 16 MiB in fp32. Of expert matrices it is one expert."""

MAX_F16 = 65504.0


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor of the file. `shape` is in numpy's order: outputs before inputs, experts first."""

    name: str
    source: str
    """The checkpoint's tensor; of MXFP4 experts its name without `_blocks` and `_scales`."""

    shape: tuple[int, ...]
    dtype: str
    """As the gguf package spells it, such as Q8_0."""

    first: int | None
    """Not None: the tensor holds every second output of its source, from this one on."""

    @property
    def size_bytes(self) -> int:
        """The bytes of the tensor in the file, without padding."""
        return encoded_bytes(self.shape, self.dtype)

    def pieces(self, stored: StoredTensors) -> Iterator[np.ndarray]:
        """Yields the tensor's bytes in order. Raises CheckpointError for values that its dtype cannot hold."""
        if f"{self.source}_blocks" in stored:
            yield from self._mxfp4_experts(stored)
        elif len(self.shape) == 3:
            yield from self._plain_experts(stored)
        else:
            yield from self._rows(stored)

    def _mxfp4_experts(self, stored: StoredTensors) -> Iterator[np.ndarray]:
        blocks, scales = (stored.mapped(f"{self.source}{part}") for part in ("_blocks", "_scales"))
        for expert in range(self.shape[0]):
            data = to_gguf(blocks[expert][self._outputs], scales[expert][self._outputs])
            yield data if self.dtype == "MXFP4" else self._encode(_dequantise(data))

    def _plain_experts(self, stored: StoredTensors) -> Iterator[np.ndarray]:
        matrices, dtype = stored.mapped(self.source), stored.dtype(self.source)
        for expert in range(self.shape[0]):
            # [in, out] to [out, in]
            yield self._encode(as_float32(matrices[expert][:, self._outputs], dtype).T)

    def _rows(self, stored: StoredTensors) -> Iterator[np.ndarray]:
        values, dtype = stored.mapped(self.source), stored.dtype(self.source)
        if self.first is not None:
            values = values[:, self._outputs]
        step = max(1, PIECE_VALUES // int(np.prod(self.shape[1:])))
        for start in range(0, self.shape[0], step):
            yield self._encode(as_float32(values[start : start + step], dtype))

    @property
    def _outputs(self) -> slice:
        return slice(None) if self.first is None else slice(self.first, None, 2)

    def _encode(self, values: np.ndarray) -> np.ndarray:
        """The bytes of fp32 values in the tensor's dtype."""
        values = np.ascontiguousarray(values)
        if self.dtype == "F32":
            return values
        if self.dtype == "F16" and not np.abs(values).max() <= MAX_F16:
            raise CheckpointError(
                f"{self.source}: holds {np.abs(values).max():g}, and F16 ends at {MAX_F16:g}. Choose bf16 or f32."
            )
        encoded: np.ndarray = gguf.quantize(values, gguf.GGMLQuantizationType[self.dtype])
        return encoded


def plan_tensors(checkpoint: Path, config: Mapping[str, Any], kind: GgufType) -> list[GgufTensor]:
    """The tensors of a file of type `kind`, in its order. `config` is the checkpoint's config.json.

    Reads the headers of the weights only. Raises CheckpointError for tensors that are missing or of another shape than
    config.json says, for MXFP4 of a checkpoint whose experts are not, and for rows that are no whole blocks.
    """
    stored = StoredTensors(checkpoint)
    quantised = is_mxfp4(checkpoint)
    if kind == GgufType.MXFP4 and not quantised:
        raise CheckpointError(
            f"{checkpoint}: its experts are not MXFP4, and a GGUF file gets MXFP4 bit for bit only. "
            "First: python -m jobs.quantize SOURCE --format mxfp4"
        )
    _check_shapes(stored, expected_mxfp4_tensors(config) if quantised else expected_tensors(config))
    shapes = expected_tensors(config)
    return [
        _plan_tensor(name, source, shapes[source], kind, stored)
        for name, source in gguf_names(int(config["num_hidden_layers"])).items()
    ]


def _plan_tensor(name: str, source: str, shape: tuple[int, ...], kind: GgufType, stored: StoredTensors) -> GgufTensor:
    module, part = name.split(".")[-2:]
    first = FIRST_OF_PAIR.get(module)
    is_expert = is_expert_matrix(source, shape)
    if is_expert:
        shape = (shape[0], shape[2], shape[1])
    if first is not None:
        shape = (shape[0], shape[1] // 2, *shape[2:])
    dtype = "F32"
    if part == "weight" and len(shape) > 1 and module != "ffn_gate_inp":
        dtype = matrix_dtype(
            kind, "BF16" if f"{source}_blocks" in stored else stored.dtype(source), is_expert=is_expert
        )
    if shape[-1] % BLOCK_BYTES[dtype][0]:
        raise CheckpointError(
            f"{source}: its rows have {shape[-1]} values, and {dtype} needs a multiple of {BLOCK_BYTES[dtype][0]}. "
            "Choose f16, bf16 or f32."
        )
    return GgufTensor(name, source, shape, dtype, first)


def _check_shapes(stored: StoredTensors, expected: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in expected.items():
        if stored.shape(name) != shape:
            raise CheckpointError(
                f"{name}: has the shape {list(stored.shape(name))}, but config.json says {list(shape)}. "
                "Copy or export the checkpoint again."
            )


def _dequantise(data: np.ndarray) -> np.ndarray:
    values: np.ndarray = gguf.dequantize(data, gguf.GGMLQuantizationType.MXFP4)
    return values
