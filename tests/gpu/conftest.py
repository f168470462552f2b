"""Without a CUDA GPU everything here is skipped, and says so."""

from __future__ import annotations

import pytest

from tuneyard.planning.local_gpus import describe_gpus


@pytest.fixture(autouse=True)
def gpu() -> str:
    """The first GPU's name."""
    gpus = describe_gpus()
    if not gpus:
        pytest.skip("no CUDA GPU here")
    return str(gpus[0]["name"])
