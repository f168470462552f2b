"""What people call a checkpoint, resolved: a folder, a URI, or a name in the registry."""

from __future__ import annotations

from pathlib import Path

from tuneyard.checkpoints.registry import REFERENCE, ModelRegistry
from tuneyard.core.home import absolute_path, expand_path
from tuneyard.storage.folder import is_uri


def resolve_checkpoint(reference: str) -> str:
    """The location of a checkpoint: an absolute path or a URI. See locate_checkpoint."""
    return locate_checkpoint(reference)[0]


def locate_checkpoint(reference: str) -> tuple[str, str | None]:
    """The checkpoint's location, and `name/version` if the registry resolved it.

    `reference` is a path, a URI, `name@alias` or `name/version`; variables and `~` expand. An existing path wins over a
    name. Only a name opens the registry, which takes seconds. Raises RegistryError for an unknown name.
    """
    expanded = expand_path(reference)
    if is_uri(expanded):
        return expanded, None
    if REFERENCE.fullmatch(expanded) and not Path(expanded).exists():
        found = ModelRegistry().find(expanded)
        return found.checkpoint, f"{found.name}/{found.version}"
    return str(absolute_path(expanded)), None
