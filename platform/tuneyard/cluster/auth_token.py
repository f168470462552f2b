"""The token that a Ray cluster of ours asks for: made where there is none, and its owner's alone."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
DEFAULT_FILE = Path("~/.ray/auth_token")
"""Where Ray itself looks when no variable says otherwise."""


def use_token_if_there() -> None:
    """Before Ray is reached: its client sends no token by default, though its clusters ask for one."""
    if any(name in os.environ for name in TOKEN_VARIABLES) or DEFAULT_FILE.expanduser().exists():
        _turn_on()


def token_source() -> str:
    """Where this process has its token from, for people."""
    named = next((name for name in TOKEN_VARIABLES if name in os.environ), None)
    if named is not None:
        return named
    return str(DEFAULT_FILE) if DEFAULT_FILE.expanduser().exists() else "none"


def ensure_token() -> None:
    """Before a cluster is started: it will ask for a token, which is made if need be. Ray itself would write it
    readable by all.
    """
    _turn_on()
    if "RAY_AUTH_TOKEN" in os.environ:
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or DEFAULT_FILE).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if path.stat().st_uid == os.getuid():
            path.chmod(0o600)
        return
    with os.fdopen(made, "w") as file:
        file.write(secrets.token_hex(32))


def _turn_on() -> None:
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if "ray" in sys.modules:
        # Ray read its settings when it was imported. Its stub leaves this compiled class out.
        from ray._raylet import Config  # type: ignore[attr-defined]

        Config.initialize("")
