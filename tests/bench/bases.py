"""The models that benchmarks start from, built where they are not there yet."""

from __future__ import annotations

from pathlib import Path

from tuneyard.core.home import tuneyard_home

SMOL, TINY = "smol-oss-135m", "tiny-oss-random"


def base(name: str) -> Path:
    """Its folder."""
    from jobs.build_base_model import build_base_model

    folder = tuneyard_home() / "models" / "base" / name
    if not folder.is_dir():
        build_base_model(name, folder)
    return folder
