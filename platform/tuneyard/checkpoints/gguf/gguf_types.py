"""GgufType: in which form a GGUF file holds a checkpoint's matrices."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum


class GgufType(StrEnum):
    """What the large matrices of the file become. Norms, biases, sinks and routers are always F32, as in llama.cpp."""

    MXFP4 = "mxfp4"
    """Experts in MXFP4, bit for bit those of a checkpoint with MXFP4 experts; other matrices keep their dtype."""

    Q8_0 = "q8_0"
    """8-bit integers in blocks of 32 with an F16 scale."""

    F16 = "f16"
    BF16 = "bf16"
    F32 = "f32"


FILE_TYPES = {GgufType.F32: 0, GgufType.F16: 1, GgufType.Q8_0: 7, GgufType.BF16: 32, GgufType.MXFP4: 38}
"""`general.file_type` of each type: llama_ftype in llama.cpp's llama.h."""

STORED_DTYPES = {"F32": "F32", "F16": "F16", "BF16": "BF16"}
"""The GGUF dtype that holds each of safetensors' dtypes exactly."""

BLOCK_BYTES = {"F32": (1, 4), "F16": (1, 2), "BF16": (1, 2), "Q8_0": (32, 34), "MXFP4": (32, 17)}
"""Values of a block, and its bytes, by the name of the GGUF dtype."""


def matrix_dtype(kind: GgufType, stored: str, *, is_expert: bool) -> str:
    """The GGUF dtype of a matrix in a file of type `kind`. `stored` is its dtype in the checkpoint."""
    if kind != GgufType.MXFP4:
        return kind.name
    return "MXFP4" if is_expert else STORED_DTYPES[stored]


def encoded_bytes(shape: Sequence[int], dtype: str) -> int:
    """The bytes of a tensor. Its rows must be whole blocks of the dtype."""
    values, size = BLOCK_BYTES[dtype]
    count = 1
    for length in shape:
        count *= length
    return count // values * size
