"""Where Tuneyard keeps what it makes: models, runs, the embedded registry, caches."""

from __future__ import annotations

import os
from pathlib import Path


def tuneyard_home() -> Path:
    """`$TUNEYARD_HOME`, or `.tuneyard` in the working directory; absolute, not necessarily existing."""
    return Path(os.environ.get("TUNEYARD_HOME") or ".tuneyard").expanduser().resolve()


def expand_home(text: str) -> str:
    """The text with `$TUNEYARD_HOME` expanded, to its default where it is not set."""
    return text.replace("$TUNEYARD_HOME", str(tuneyard_home()))
