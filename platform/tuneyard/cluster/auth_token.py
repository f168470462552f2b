"""The token that a Ray cluster requires of its clients: where it is found, and how it is created.

Ray looks in this order: RAY_AUTH_TOKEN, the file that RAY_AUTH_TOKEN_PATH names, ~/.ray/auth_token.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from tuneyard.core.atomic_files import create_atomically
from tuneyard.core.errors import ConfigError

TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
DEFAULT_FILE = Path("~/.ray/auth_token")
"""Ray's own default."""


def token_file() -> Path:
    """Returns the file that Ray would read the token from on this machine. It need not exist.

    Nodes of a cluster run this function too, pickled by value and without Tuneyard installed (doctor.node_probe): it
    must use nothing but this module's constants and the standard library.
    """
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or DEFAULT_FILE).expanduser()


def token_source() -> str:
    """Returns where this process takes its token from, for messages: a variable, a file, or `none`."""
    variable = next((name for name in TOKEN_VARIABLES if os.environ.get(name)), None)
    if variable is not None:
        return variable
    return str(DEFAULT_FILE) if token_file().exists() else "none"


def has_token() -> bool:
    """Whether this process can send a token."""
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or token_file().is_file()


def use_token_if_present() -> None:
    """Makes Ray's client send the token, if this machine has one. Call it before connecting to a cluster.

    By default Ray's client sends none, although clusters that Tuneyard starts require one.
    """
    if token_source() != "none":
        _enable_token_mode()


def ensure_token() -> None:
    """Makes Ray require a token, and creates one if there is none. Call it before starting a cluster.

    The file is readable by its owner only; Ray itself would create it readable by everyone. Raises ConfigError if the
    file exists and is empty.
    """
    _enable_token_mode()
    if os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = token_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    if not create_atomically(path, secrets.token_hex(32), mode=0o600):
        if path.stat().st_uid == os.getuid():
            path.chmod(0o600)
        if not path.read_text(encoding="utf-8").strip():
            raise ConfigError(f"{path} is empty, so there is no token. Delete the file; a new token is then created.")


def _enable_token_mode() -> None:
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if "ray" in sys.modules:
        # Ray reads its settings once, when it is imported. Ray's type stub lacks this compiled class.
        from ray._raylet import Config  # type: ignore[attr-defined]

        Config.initialize("")
