"""Kubernetes' quantities, such as `500m` and `1200Gi`, as numbers."""

from __future__ import annotations

import re
from typing import Any

SUFFIXES = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
SUFFIXES |= {f"{letter}i": 2.0 ** (10 * power) for power, letter in enumerate("KMGTPE", start=1)}
"""Suffixes of Kubernetes' quantities."""


def quantity(value: Any) -> float:
    """Returns a Kubernetes quantity such as `96`, `500m` or `1200Gi` as a number; 0 for text that is none."""
    match = re.fullmatch(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)([A-Za-z]*)", str(value).strip())
    return float(match[1]) * SUFFIXES.get(match[2], 0.0) if match else 0.0
