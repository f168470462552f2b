"""The file of API keys holds no secret, a broken one is refused, and it changes only with the audit log."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.api.api_keys import ApiKey, KeyStore
from tuneyard.core.errors import ConfigError
from tuneyard.storage.audit_log import AuditLog


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


@pytest.mark.parametrize("action", ["create", "update", "revoke"])
def test_without_the_audit_log_nothing_changes(store: KeyStore, action: str) -> None:
    key, secret = store.create("first")
    log = store.path.with_name("audit.jsonl")
    log.unlink()
    log.mkdir()
    before = store.path.read_bytes()
    with pytest.raises(ConfigError, match=rf"nothing was changed \(key\.{action} on key .*Make the file writable and"):
        change(store, key, action)
    assert store.path.read_bytes() == before
    assert (store.find(secret), [known.name for known in store.list_keys()]) == (key, ["first"])
    assert {path.name for path in store.path.parent.iterdir()} == {
        "api_keys.json",
        "api_keys.lock",
        "audit.jsonl",
        "audit.jsonl.lock",
    }
    log.rmdir()
    change(store, key, action)
    assert [event.action for event in AuditLog(log).events()] == [f"key.{action}"]


def test_keys_that_cannot_be_written_are_not_recorded(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = KeyStore(tmp_path / "file" / "api_keys.json")
    with pytest.raises(ConfigError, match=r"API keys in .* cannot be written: .* Nothing was changed"):
        store.create("a")


@pytest.mark.parametrize("action", ["create", "update", "revoke"])
def test_a_change_that_fails_after_its_line_has_a_line_of_its_failure(
    store: KeyStore, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, _ = store.create("first", max_streams=3)

    def fail(*_: object) -> None:
        raise OSError("stale handle")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(ConfigError, match=r"stale handle\. Nothing was changed"):
            change(store, key, action)
    assert store.list_keys() == [key]
    _, begun, failed = AuditLog(store.path.with_name("audit.jsonl")).events()
    assert (begun.action, failed.action) == (f"key.{action}", f"key.{action}.failed")
    assert (failed.target, failed.before, failed.after) == (begun.target, begun.after, begun.before)
    assert failed.details == ({"changed": {"max_streams": 3}} if action == "update" else {})


@pytest.mark.parametrize("action", ["create", "update", "revoke"])
def test_a_change_whose_folder_cannot_be_synced_is_made(
    store: KeyStore, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, _ = store.create("first")
    real = os.fsync

    def fail_for_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fail_for_folders)
    with pytest.raises(ConfigError, match=r"were changed, but the folder cannot be synced") as error:
        change(store, key, action)
    assert "Nothing was changed" not in str(error.value)
    assert store.list_keys() != [key]
    assert [e.action for e in AuditLog(store.path.with_name("audit.jsonl")).events()] == ["key.create", f"key.{action}"]


def change(store: KeyStore, key: ApiKey, action: str) -> None:
    match action:
        case "create":
            store.create("second")
        case "update":
            store.update(key.id, {"max_streams": 1})
        case "revoke":
            store.revoke(key.id)


@given(st.lists(st.tuples(st.sampled_from(["create", "update", "revoke"]), st.booleans()), max_size=12))
def test_the_log_tells_of_every_change_and_of_no_other(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, bool]]
) -> None:
    """Each action with a log that can be written, or not."""
    store = KeyStore(tmp_path_factory.mktemp("keys") / "api_keys.json")
    log = store.path.with_name("audit.jsonl")
    names: list[str] = []
    recorded: list[str] = []
    for number, (action, is_writable) in enumerate(actions):
        keys = store.list_keys()
        if action != "create" and not keys:
            continue
        away = log.with_name("away")
        if not is_writable:
            if log.exists():
                log.rename(away)
            log.mkdir()
        try:
            if action == "create":
                store.create(str(number))
            elif action == "update":
                store.update(keys[0].id, {"max_streams": number + 1})
            else:
                store.revoke(keys[0].id)
        except ConfigError:
            assert not is_writable
        else:
            assert is_writable
            recorded.append(f"key.{action}")
            names = [*names, str(number)] if action == "create" else names[action == "revoke" :]
        if not is_writable:
            log.rmdir()
            if away.exists():
                away.rename(log)
        assert [key.name for key in store.list_keys()] == names
        assert [event.action for event in AuditLog(log).events()] == recorded
