"""The main memory of an import: the measured figure for 120B, and a refusal before anything is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.nemo.setup.import_memory import available_bytes, check_import_memory
from tuneyard.core.errors import ClusterError
from tuneyard.planning.published_models import PUBLISHED
from tuneyard.planning.training.host_memory import import_bytes


def published(size: str) -> dict[str, Any]:
    return {**PUBLISHED[size], "num_experts_per_tok": 4}


def test_the_published_sizes() -> None:
    assert import_bytes(published("120b"), 2) == pytest.approx(530e9, rel=0.02)
    assert import_bytes(published("20b"), 2) == pytest.approx(95e9, rel=0.02)


def test_too_little_memory_is_refused_with_both_numbers() -> None:
    with pytest.raises(ClusterError, match=r"takes about 49\d GiB of main memory, and this machine has 400 GiB left"):
        check_import_memory(published("120b"), 2, available=400 * 2**30)
    check_import_memory(published("120b"), 2, available=600 * 2**30)


def test_a_small_base_fits_here(tiny_oss: Path) -> None:
    assert 2**20 < available_bytes() < 2**50
    check_import_memory(json.loads((tiny_oss / "config.json").read_text()), 2)


@pytest.mark.parametrize("prefix", ["", "total_"])
def test_files_that_a_container_has_read_take_no_memory(tmp_path: Path, prefix: str) -> None:
    """The base has just been hashed, so the container's use holds a copy of it, which Linux drops when needed."""
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    limit.write_text(f"{64 * 2**20}\n")
    used.write_text(f"{60 * 2**20}\n")
    assert available_bytes([(limit, used)]) == 4 * 2**20
    (tmp_path / "memory.stat").write_text(
        f"anon {20 * 2**20}\n{prefix}inactive_file {30 * 2**20}\n{prefix}active_file {10 * 2**20}\n"
    )
    assert available_bytes([(limit, used)]) == 44 * 2**20
