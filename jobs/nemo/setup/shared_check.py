"""Checks a NeMo folder on all ranks of a run together: each file is hashed by one of them."""

from __future__ import annotations

from pathlib import Path

import torch.distributed as dist

from tuneyard.checkpoints.safety.written_folders import check_written_folder
from tuneyard.core.errors import CheckpointError


def check_written_folder_together(folder: Path) -> None:
    """Returns if the folder, which all ranks see, is what was recorded. Call it on every rank.

    Raises CheckpointError on every rank if it is not on one of them.
    """
    if not dist.is_initialized():
        check_written_folder(folder)
        return
    problem = None
    try:
        check_written_folder(folder, dist.get_rank(), dist.get_world_size())
    except CheckpointError as e:
        problem = str(e)
    problems: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(problems, problem)
    for found in problems:
        if found is not None:
            raise CheckpointError(found)
