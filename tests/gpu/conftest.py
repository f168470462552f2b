"""Skips all tests of this folder on machines without a CUDA GPU."""

from __future__ import annotations

import pytest

from tuneyard.planning.local_gpus import describe_gpus


@pytest.fixture(autouse=True)
def gpu() -> str:
    """The first GPU's name."""
    gpus = describe_gpus()
    if not gpus:
        pytest.skip("this machine has no CUDA GPU")
    return str(gpus[0]["name"])
