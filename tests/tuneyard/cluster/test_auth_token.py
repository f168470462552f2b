"""Where the token is found, and that a created token file is private."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from tuneyard.cluster import auth_token
from tuneyard.cluster.auth_token import ensure_token, has_token, token_file, token_source
from tuneyard.core.errors import ConfigError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without a token, and an environment without Ray's variables."""
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        # setenv first, so that monkeypatch also undoes what the module sets.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    # Ray may be loaded by another test; its settings must stay as they are.
    monkeypatch.setattr(auth_token, "_enable_token_mode", lambda: os.environ.setdefault("RAY_AUTH_MODE", "token"))
    return tmp_path


def test_without_a_token_none_is_used(home: Path) -> None:
    auth_token.use_token_if_present()
    assert "RAY_AUTH_MODE" not in os.environ
    assert (token_source(), has_token(), token_file()) == ("none", False, home / ".ray/auth_token")


def test_a_variable_comes_before_the_default_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".ray").mkdir()
    (home / ".ray/auth_token").write_text("abc")
    assert (token_source(), has_token()) == ("~/.ray/auth_token", True)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "~/elsewhere")
    assert (token_source(), has_token(), token_file()) == ("RAY_AUTH_TOKEN_PATH", False, home / "elsewhere")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "abc")
    assert (token_source(), has_token()) == ("RAY_AUTH_TOKEN", True)
    auth_token.use_token_if_present()
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_a_created_token_is_private_and_kept(home: Path) -> None:
    ensure_token()
    file = home / ".ray/auth_token"
    token = file.read_text()
    assert len(token) == 64
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    ensure_token()
    assert file.read_text() == token
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_an_empty_token_is_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    (home / ".ray").mkdir()
    file = home / ".ray/auth_token"
    file.write_text("\n")
    with pytest.raises(ConfigError, match=r"auth_token is empty, so there is no token\. Delete the file"):
        ensure_token()
    file.unlink()
    ensure_token()
    assert (len(file.read_text()), token_source()) == (64, "~/.ray/auth_token")


def test_a_token_is_written_whole_or_not_at_all(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        ensure_token()
    assert list((home / ".ray").iterdir()) == []


def test_a_token_in_the_environment_creates_no_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "abc")
    ensure_token()
    assert not (home / ".ray").exists()
