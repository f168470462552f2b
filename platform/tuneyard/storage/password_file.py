"""Passwords of databases, which stand in files of their own and never in a config or a URL."""

from __future__ import annotations

from pathlib import Path

from tuneyard.core.errors import ConfigError


def read_password(path: Path, field: str) -> str:
    """The password in a file, without the line break at its end.

    Raises ConfigError with the config field that names the file, if the file is missing, empty or not text.
    """
    try:
        password = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{field}: the password file {path} cannot be read ({type(e).__name__}).") from e
    if not password:
        raise ConfigError(f"{field}: the password file {path} is empty. Write the password into it.")
    return password
