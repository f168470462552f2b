"""Atomic writes: a file is complete or unchanged."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from tuneyard.core.atomic_files import create_atomically, replacing, write_atomically


def test_replaces_text_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "grüß")
    assert path.read_text(encoding="utf-8") == "grüß"
    write_atomically(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_mode_is_set(tmp_path: Path) -> None:
    write_atomically(tmp_path / "secret", "key", mode=0o600)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_a_full_disk_leaves_the_old_content_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")

    def raise_disk_full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", raise_disk_full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_replacement_waits_for_its_context(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    with pytest.raises(RuntimeError, match="not now"), replacing(path, "new"):
        raise RuntimeError("not now")
    assert (path.read_text(), [entry.name for entry in tmp_path.iterdir()]) == ("old", ["file"])
    with replacing(path, "new"):
        assert path.read_text() == "old"
    assert (path.read_text(), [entry.name for entry in tmp_path.iterdir()]) == ("new", ["file"])


def test_creates_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert create_atomically(path, "first", mode=0o600)
    assert not create_atomically(path, "second")
    assert path.read_text(encoding="utf-8") == "first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
