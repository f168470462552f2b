"""The GPUs of this machine, as PyTorch reports them."""

from __future__ import annotations

import re
from typing import Any

from tuneyard.core.resources import GIB
from tuneyard.planning.gpus import GPUS

MEMORY_TOLERANCE = 0.1
"""Largest relative difference in memory between a GPU and the known GPU of the same name. It tells variants apart, such
as the A100 with 40 GB."""


def describe_gpus() -> list[dict[str, Any]]:
    """Returns name, sm (compute capability × 10) and memory_gib of each GPU; an empty list without CUDA or PyTorch."""
    try:
        import torch
    except ModuleNotFoundError:
        return []
    if not torch.cuda.is_available():
        return []
    gpus = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        gpus.append(
            {
                "name": properties.name,
                "sm": properties.major * 10 + properties.minor,
                "memory_gib": round(properties.total_memory / GIB, 2),
            }
        )
    return gpus


def known_local_gpu() -> str | None:
    """Returns the config name of this machine's first GPU; None without a GPU or if its type is not in GPUS."""
    for gpu in describe_gpus()[:1]:
        for known in GPUS.values():
            has_name = re.search(rf"\b{known.name}\b", gpu["name"]) is not None
            if has_name and abs(gpu["memory_gib"] - known.memory_gib) < MEMORY_TOLERANCE * known.memory_gib:
                return known.name
    return None
