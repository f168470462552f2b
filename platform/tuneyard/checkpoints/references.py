"""Resolves a reference to a checkpoint: a folder, a URI, or a name in the model registry."""

from __future__ import annotations

from pathlib import Path

from tuneyard.checkpoints.registry import REFERENCE, ModelRegistry
from tuneyard.core.home import absolute_path, expand_path
from tuneyard.storage.location import is_uri


def resolve_checkpoint(reference: str) -> str:
    """Returns the location of a checkpoint: an absolute path or a URI. See locate_checkpoint."""
    return locate_checkpoint(reference)[0]


def locate_checkpoint(reference: str) -> tuple[str, str | None]:
    """Returns the checkpoint's location, and `name/version` if the registry resolved the reference.

    `reference` is a path, a URI, `name@alias` or `name/version`; environment variables and `~` are expanded. An
    existing path takes precedence over a name. Only a name opens the registry, which takes seconds. Raises
    RegistryError for an unknown name.
    """
    expanded = expand_path(reference)
    if is_uri(expanded):
        return expanded, None
    if REFERENCE.fullmatch(expanded) and not Path(expanded).exists():
        version = ModelRegistry().find(expanded)
        return version.checkpoint, f"{version.name}/{version.version}"
    return str(absolute_path(expanded)), None
