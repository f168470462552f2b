"""The home folder for models, runs, the embedded registry and caches, and paths relative to it."""

from __future__ import annotations

import os
from pathlib import Path


def tuneyard_home() -> Path:
    """`$TUNEYARD_HOME`, by default `.tuneyard` in the working directory; absolute. The folder may not exist yet."""
    return Path(os.environ.get("TUNEYARD_HOME") or ".tuneyard").expanduser().resolve()


def expand_path(text: str) -> str:
    """The text with environment variables and a leading `~` expanded. `$TUNEYARD_HOME` has a default.

    A variable that is not set stays in the text.
    """
    return os.path.expanduser(os.path.expandvars(text.replace("$TUNEYARD_HOME", str(tuneyard_home()))))  # noqa: PTH111


def absolute_path(text: str | Path, base: Path | None = None) -> Path:
    """The path, expanded by expand_path, absolute against `base`; None is the working directory."""
    return ((base or Path.cwd()) / expand_path(str(text))).resolve()
