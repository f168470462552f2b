"""The key that opens administrators' routes, such as rendering a prompt without answering it."""

from __future__ import annotations

import os
import secrets

from tuneyard.core.atomic_files import create_atomically
from tuneyard.core.errors import ConfigError
from tuneyard.core.home import tuneyard_home

VARIABLE = "TUNEYARD_ADMIN_KEY"


def load_admin_key() -> str:
    """Returns the key in TUNEYARD_ADMIN_KEY, or else the one in `$TUNEYARD_HOME/admin_key`.

    The file is created on first use, readable by its owner only. Raises ConfigError if the file is empty, as a full
    disk may leave one: an empty key would open the routes to everyone.
    """
    if key := os.environ.get(VARIABLE, "").strip():
        return key
    path = tuneyard_home() / "admin_key"
    path.parent.mkdir(parents=True, exist_ok=True)
    create_atomically(path, secrets.token_urlsafe(32) + "\n", mode=0o600)
    key = path.read_text(encoding="ascii").strip()
    if not key:
        raise ConfigError(f"{path} is empty, so there is no admin key. Delete the file; a new key is then created.")
    return key
