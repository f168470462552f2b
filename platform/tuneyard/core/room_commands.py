"""What the library knows of the programs above it, which it never imports: their module names and one line of output.

`tests/test_room_commands.py` holds every name and the line's form against the programs themselves.
"""

from __future__ import annotations

import re

FINETUNE = "jobs.finetune"
"""Trains, exports, proves and registers one run."""
BUILD_BASE_MODEL = "jobs.build_base_model"
QUANTIZE = "jobs.quantize"
EVALUATE = "jobs.evaluate"
DEPLOY = "serve_apps.deploy"
"""Serves the models of a config."""
CHAT_PAGE = "ui"

PROGRESS_PREFIX = "training: "
PROGRESS_LINE = re.compile(rf"{PROGRESS_PREFIX}step (?P<step>\d+)/(?P<total>\d+)  (?P<rest>.*)")
"""A run's progress in a job's log, where no terminal shows its bar."""


def progress_line(step: int, total_steps: int, rest: str) -> str:
    """The line that PROGRESS_LINE matches."""
    return f"{PROGRESS_PREFIX}step {step}/{total_steps}  {rest}"
