"""Whether this machine has the main memory that importing a base into NeMo 2 format takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from tuneyard.core.errors import ClusterError
from tuneyard.core.resources import GIB
from tuneyard.planning.training.host_memory import import_bytes

CGROUP_FILES = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)
"""A container's limit and use in bytes, for cgroup versions 2 and 1."""

STATISTICS = "memory.stat"
"""The file beside them that says what the use consists of."""


def available_bytes(cgroup_files: Sequence[tuple[Path, Path]] = CGROUP_FILES) -> int:
    """Main memory in bytes that this process can still take, within the limit of its container."""
    available = int(psutil.virtual_memory().available)
    for limit, used in cgroup_files:
        if limit.is_file() and used.is_file() and (text := limit.read_text().strip()).isdigit():
            taken = int(used.read_text()) - _cached_file_bytes(used.with_name(STATISTICS))
            available = min(available, int(text) - taken)
    return available


def _cached_file_bytes(statistics: Path) -> int:
    """Bytes of a container's use that are copies of files, which Linux drops when memory is needed."""
    if not statistics.is_file():
        return 0
    values = dict(line.split() for line in statistics.read_text().splitlines())
    # cgroup version 1 counts the groups below in fields with this prefix.
    prefix = "total_" if "total_inactive_file" in values else ""
    return sum(int(values.get(f"{prefix}{kind}_file", 0)) for kind in ("inactive", "active"))


def check_import_memory(config: Mapping[str, Any], bytes_per_parameter: int, available: int | None = None) -> None:
    """Raises ClusterError if importing takes more main memory than there is, before anything is read.

    `available` is in bytes; None measures it.
    """
    needed = import_bytes(config, bytes_per_parameter)
    available = available_bytes() if available is None else available
    if needed > available:
        raise ClusterError(
            f"Importing this base into NeMo 2 format takes about {needed / GIB:,.0f} GiB of main memory, and this "
            f"machine has {available / GIB:,.0f} GiB left. Import it once on a machine with more memory, into the "
            "folder that the run expects: python -m jobs.import_checkpoint hf://BASE TARGET. Or raise the memory "
            "limit of the container, or finetune a smaller base."
        )
