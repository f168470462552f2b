"""Differences between a checkpoint's tensors and what its config.json promises: names, shapes, dtypes, MXFP4."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from tuneyard.checkpoints.layout.config_checks import ADOPT_AGAIN
from tuneyard.checkpoints.layout.content_hashes import TensorEntry
from tuneyard.checkpoints.layout.gpt_oss import (
    ARCHITECTURE,
    expected_mxfp4_tensors,
    expected_tensors,
    has_mxfp4_tensors,
)
from tuneyard.core.errors import CheckpointError
from tuneyard.core.wording import first_of

_DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
"""dtype in config.json -> the same dtype in a safetensors header."""


def tensor_problems(config: Mapping[str, Any], tensors: Mapping[str, TensorEntry]) -> Iterator[str]:
    """Yields one message for each way in which the tensors differ from what config.json promises."""
    is_quantised = has_mxfp4_tensors(tensors)
    quantisation = config.get("quantization_config")
    if quantisation and not is_quantised:
        yield (
            f"config.json: stale quantization_config ({quantisation.get('quant_method', '?')}). The weights are not "
            f"quantised, so a loader would misread them. Remove the field. {ADOPT_AGAIN}"
        )
    if is_quantised and not quantisation:
        yield (
            "config.json: there is no quantization_config, but the weights are MXFP4 (`_blocks`, `_scales`). Copy "
            "config.json again from the model's source."
        )
    try:
        expected = expected_mxfp4_tensors(config) if is_quantised else expected_tensors(config)
    except CheckpointError as e:
        yield str(e)
        return
    missing, unexpected = sorted(expected.keys() - tensors), sorted(tensors.keys() - expected)
    if missing or unexpected:
        yield (
            f"the tensor names are not those of {ARCHITECTURE}: missing {first_of(missing)}; unexpected "
            f"{first_of(unexpected)}. A loader would fill the missing ones with random numbers. Export the weights "
            "again."
        )
    for name in sorted(expected.keys() & tensors):
        if tensors[name].shape != expected[name]:
            yield f"{name}: the shape is {list(tensors[name].shape)}, but config.json promises {list(expected[name])}."
    yield from _dtype_problems(config, tensors)


def _dtype_problems(config: Mapping[str, Any], tensors: Mapping[str, TensorEntry]) -> Iterator[str]:
    """Norms may be F32 beside any dtype, because transformers keeps them so. MXFP4 tensors are U8.

    A published config.json names no dtype; then the most frequent one counts.
    """
    dtype = config.get("dtype") or config.get("torch_dtype")
    source = "config.json promises" if dtype else "most others are"
    promised = _DTYPES.get(str(dtype)) if dtype else _most_frequent_dtype(tensors)
    if promised not in _DTYPES.values():
        yield f"config.json: dtype is {dtype or promised!r}, but must be one of {', '.join(_DTYPES)}."
        return
    for name, tensor in sorted(tensors.items()):
        allowed = {"U8"} if name.endswith(("_blocks", "_scales")) else {promised}
        if name.endswith("norm.weight"):
            allowed.add("F32")
        if tensor.dtype not in allowed:
            yield (
                f"{name}: the dtype is {tensor.dtype}, but {source} {' or '.join(sorted(map(str, allowed)))}. "
                "Export the weights again."
            )


def _most_frequent_dtype(tensors: Mapping[str, TensorEntry]) -> str | None:
    """The dtype of most tensors, MXFP4's left out; None if there are no others."""
    counts = Counter(entry.dtype for name, entry in tensors.items() if not name.endswith(("_blocks", "_scales")))
    return max(counts, key=lambda dtype: counts[dtype], default=None)
