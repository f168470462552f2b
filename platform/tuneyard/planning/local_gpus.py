"""The GPUs of this machine, as PyTorch sees them."""

from __future__ import annotations

import re
from typing import Any

from tuneyard.planning.gpus import GPUS


def describe_gpus() -> list[dict[str, Any]]:
    """Name, compute capability × 10 and total memory (GiB) of each; empty without a CUDA GPU, or without PyTorch."""
    try:
        import torch
    except ModuleNotFoundError:
        return []
    if not torch.cuda.is_available():
        return []
    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found.append(
            {
                "name": properties.name,
                "sm": properties.major * 10 + properties.minor,
                "memory_gib": round(properties.total_memory / 2**30, 2),
            }
        )
    return found


def known_gpu_here() -> str | None:
    """This machine's first GPU by the name that a config has for it; None when it has none that Tuneyard knows, or one
    of that name with other memory.
    """
    for found in describe_gpus()[:1]:
        for known in GPUS.values():
            of_that_name = re.search(rf"\b{known.name}\b", found["name"]) is not None
            if of_that_name and abs(found["memory_gib"] - known.memory_gib) < 0.1 * known.memory_gib:
                return known.name
    return None
