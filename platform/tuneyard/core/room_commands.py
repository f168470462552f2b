"""Module names and the progress line of the programs in jobs, serve_apps and ui, which the library must not import.

`tests/test_room_commands.py` compares them with the programs.
"""

from __future__ import annotations

import re

FINETUNE = "jobs.finetune"
"""Trains, exports, proves and registers one run."""
REHEARSE = "jobs.rehearse"
"""Rehearses one run with a small model, on CPUs."""
BUILD_BASE_MODEL = "jobs.build_base_model"
QUANTIZE = "jobs.quantize"
EVALUATE = "jobs.evaluate"
DEPLOY = "serve_apps.deploy"
"""Serves the models of a config."""
STOP_PLATFORM = "serve_apps.stop_platform"
"""Removes the fine-tuning API from a cluster."""
CHAT_PAGE = "ui"

PROGRESS_PREFIX = "training: "
PROGRESS_LINE = re.compile(rf"{PROGRESS_PREFIX}step (?P<step>\d+)/(?P<total>\d+)  (?P<rest>.*)")
"""A line of a job's log that reports the training's progress; written where no terminal shows a progress bar."""


def progress_line(step: int, total_steps: int, rest: str) -> str:
    """The line that PROGRESS_LINE matches."""
    return f"{PROGRESS_PREFIX}step {step}/{total_steps}  {rest}"
