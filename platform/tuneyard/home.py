"""Where Tuneyard keeps what it makes: models, runs, the embedded registry, caches."""

from __future__ import annotations

import os
from pathlib import Path


def tuneyard_home() -> Path:
    """`$TUNEYARD_HOME`, or `.tuneyard` in the working directory; absolute, not necessarily existing."""
    return Path(os.environ.get("TUNEYARD_HOME") or ".tuneyard").expanduser().resolve()
