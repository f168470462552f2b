"""The one list of what makes a checkpoint folder unsafe to load. It reads no weights, so it takes milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tuneyard.checkpoints.safety.config_fields import field_problems
from tuneyard.checkpoints.safety.file_kinds import file_problems
from tuneyard.core.errors import CheckpointError
from tuneyard.core.wording import count_of, listed


def safety_problems(folder: Path) -> Iterator[str]:
    """Yields one message for each reason why loading the checkpoint could run code or read other files.

    Files that a loader needs and that are missing or broken are not reported here; see validate_hf_checkpoint.
    """
    yield from file_problems(folder)
    yield from field_problems(folder)


def check_safety(folder: Path) -> None:
    """Raises one CheckpointError that lists every problem of safety_problems. Call it before anything loads the folder.

    A folder that does not exist passes: whatever reads it next reports that.
    """
    if problems := list(safety_problems(Path(folder))):
        raise CheckpointError(
            f"{folder} is not safe to load, so nothing of it was loaded: "
            f"{count_of(len(problems), 'problem')}\n{listed(problems)}"
        )
