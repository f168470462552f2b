"""What the library knows of the rooms by strings is what the rooms are."""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys

import pytest

from jobs.runs.progress import TrainingProgress
from tuneyard.core import room_commands
from tuneyard.core.room_commands import PROGRESS_LINE

MODULES = [value for name, value in vars(room_commands).items() if name.isupper() and isinstance(value, str)]
MODULES.remove(room_commands.PROGRESS_PREFIX)


@pytest.mark.parametrize("module", MODULES)
def test_every_named_module_is_a_command(module: str) -> None:
    assert importlib.util.find_spec(module) is not None
    found = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert f"python -m {module}" in found.stdout


class _OneEvent:
    """An event source with one training step."""

    def __init__(self) -> None:
        self._events = [{"step": 3.0, "total_steps": 12.0, "epoch": 0.5, "loss": 2.5, "learning_rate": 1e-4}]

    def next_events(self) -> list[dict[str, float]]:
        events, self._events = self._events, []
        return events

    def notices(self) -> list[str]:
        return []


def test_a_runs_progress_line_is_the_one_that_the_job_log_is_searched_for() -> None:
    stream = io.StringIO()
    with TrainingProgress(_OneEvent(), lambda _: None, stream):
        pass
    found = PROGRESS_LINE.match(stream.getvalue())
    assert found
    assert (found["step"], found["total"]) == ("3", "12")
