"""The key that opens administrators' routes, such as rendering a prompt without answering it."""

from __future__ import annotations

import os
import secrets

from tuneyard.core.home import tuneyard_home

VARIABLE = "TUNEYARD_ADMIN_KEY"


def load_admin_key() -> str:
    """The key from the environment, or else from `$TUNEYARD_HOME/admin_key`, made on first use, for its owner only."""
    if key := os.environ.get(VARIABLE):
        return key
    path = tuneyard_home() / "admin_key"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii").strip()
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
    return path.read_text(encoding="ascii").strip()
