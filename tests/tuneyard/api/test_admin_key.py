"""The admin key: created once, readable by its owner only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tuneyard.api.admin_key import load_admin_key
from tuneyard.core.errors import ConfigError


def test_the_admin_key_is_created_once_and_only_its_owner_can_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEYARD_HOME", str(tmp_path / "h"))
    key = load_admin_key()
    assert len(key) > 30
    assert load_admin_key() == key
    assert (tmp_path / "h" / "admin_key").stat().st_mode & 0o077 == 0
    monkeypatch.setenv("TUNEYARD_ADMIN_KEY", "given")
    assert load_admin_key() == "given"


def test_an_empty_key_file_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEYARD_HOME", str(tmp_path))
    (tmp_path / "admin_key").write_text("\n", encoding="ascii")
    monkeypatch.setenv("TUNEYARD_ADMIN_KEY", " ")
    with pytest.raises(ConfigError, match=r"admin_key is empty, so there is no admin key\. Delete the file"):
        load_admin_key()


def test_of_many_processes_that_start_at_once_all_get_one_whole_key(tmp_path: Path) -> None:
    code = "from tuneyard.api.admin_key import load_admin_key; print(load_admin_key())"
    environment = os.environ | {"TUNEYARD_HOME": str(tmp_path), "PYTHONPATH": "platform"}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    keys = {process.communicate()[0].strip() for process in processes}
    assert len(keys) == 1
    assert len(keys.pop()) > 30
