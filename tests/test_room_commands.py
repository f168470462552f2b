"""The module names and the progress line in tuneyard.core.room_commands are those of the programs."""

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
    finished = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert f"python -m {module}" in finished.stdout


class _OneEvent:
    """An event source with one training step."""

    def __init__(self) -> None:
        self._events = [{"step": 3.0, "total_steps": 12.0, "epoch": 0.5, "loss": 2.5, "learning_rate": 1e-4}]

    def next_events(self) -> list[dict[str, float]]:
        events, self._events = self._events, []
        return events

    def notices(self) -> list[str]:
        return []


def test_a_runs_progress_line_matches_the_pattern_for_job_logs() -> None:
    stream = io.StringIO()
    with TrainingProgress(_OneEvent(), lambda _: None, stream):
        pass
    match = PROGRESS_LINE.match(stream.getvalue())
    assert match
    assert (match["step"], match["total"]) == ("3", "12")
