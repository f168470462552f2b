"""Where Tuneyard keeps what it makes: models, runs, the embedded registry, caches."""

from __future__ import annotations

import os
from pathlib import Path


def tuneyard_home() -> Path:
    """`$TUNEYARD_HOME`, or `.tuneyard` in the working directory; absolute, not necessarily existing."""
    return Path(os.environ.get("TUNEYARD_HOME") or ".tuneyard").expanduser().resolve()


def expand_path(text: str) -> str:
    """The text with environment variables and a leading `~` expanded; `$TUNEYARD_HOME` has a default.

    A variable that is not set stays as it is written.
    """
    return os.path.expanduser(os.path.expandvars(text.replace("$TUNEYARD_HOME", str(tuneyard_home()))))  # noqa: PTH111


def absolute_path(text: str | Path, base: Path | None = None) -> Path:
    """expand_path, made absolute against `base`, by default the working directory."""
    return ((base or Path.cwd()) / expand_path(str(text))).resolve()
