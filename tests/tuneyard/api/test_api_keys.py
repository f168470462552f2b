"""The file of API keys holds no secret, and a broken one is refused."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tuneyard.api.api_keys import KeyStore
from tuneyard.core.errors import ConfigError


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "api_keys.json")


def test_the_file_holds_no_secret(store: KeyStore) -> None:
    _, secret = store.create("a")
    assert secret not in store.path.read_text()
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


def test_a_broken_file_is_refused(store: KeyStore) -> None:
    store.path.write_text("{")
    with pytest.raises(ConfigError, match="not a file of API keys"):
        store.find("ty-x")
