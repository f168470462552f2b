"""Base models for benchmarks, built when they do not exist yet."""

from __future__ import annotations

from pathlib import Path

from tuneyard.core.home import tuneyard_home

SMOL, TINY = "smol-oss-135m", "tiny-oss-random"


def base(name: str) -> Path:
    """The folder of a base model in TUNEYARD_HOME. Builds the model if it does not exist."""
    from jobs.bases.building import build_base_model

    folder = tuneyard_home() / "models" / "base" / name
    if not folder.is_dir():
        build_base_model(name, folder)
    return folder
