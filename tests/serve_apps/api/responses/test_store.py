"""The store of responses: owners, shared items, age and size."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve_apps.api.responses.store import END_MARGIN_S, ResponseStore


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., ResponseStore]:
    """Makes a store; all of one test share a file."""

    def make(**options: Any) -> ResponseStore:
        return ResponseStore(tmp_path / "db", **{"max_age_s": 100.0, "max_bytes_per_owner": 2**20} | options)

    return make


def item(number: int, text: str = "") -> dict[str, Any]:
    return {"type": "message", "id": f"msg_{number}", "content": text}


def answer(store: ResponseStore, owner: str, name: str, *items: dict[str, Any], previous: str | None = None) -> None:
    history = store.items_of(owner, previous, with_output=True) if previous else []
    store.begin(owner, {"id": name, "output": []}, history, items)
    store.finish(owner, {"id": name, "output": [{"type": "message", "id": f"out_{name}"}]})


def ids(store: ResponseStore, owner: str, name: str) -> list[str]:
    return [item.content["id"] for item in store.items_of(owner, name, with_output=True)]


def test_the_file_is_private_and_shared_by_processes(make_store: Callable[..., ResponseStore], tmp_path: Path) -> None:
    store, other = make_store(), make_store()
    assert stat.S_IMODE((tmp_path / "db").stat().st_mode) == 0o600
    store.begin("o", {"id": "r", "output": []}, [], [item(1)])
    assert other.find("o", "r") is not None
    other.cancel("o", "r")
    assert store.is_cancelled("o", "r")
    store.finish("o", {"id": "r", "output": []})
    found = other.find("o", "r")
    assert found is not None
    assert found.is_final


def test_a_conversation_shares_items_and_outlives_its_first_response(make_store: Callable[..., ResponseStore]) -> None:
    store = make_store()
    answer(store, "o", "a", item(1))
    answer(store, "o", "b", item(2), previous="a")
    assert ids(store, "o", "b") == ["msg_1", "out_a", "msg_2", "out_b"]
    assert store.delete("o", "a")
    assert not store.delete("o", "a")
    assert ids(store, "o", "b") == ["msg_1", "out_a", "msg_2", "out_b"]
    assert store.delete("o", "b")
    assert store.find_item("o", "msg_1") is None


def test_old_responses_are_not_found_and_deleted(make_store: Callable[..., ResponseStore]) -> None:
    now = [1000.0]
    store = make_store(now=lambda: now[0])
    answer(store, "o", "a", item(1))
    now[0] += 101
    assert store.find("o", "a") is None
    answer(store, "o", "b", item(2))
    assert store.find_item("o", "msg_1") is None


def test_a_response_without_an_end_in_its_time_is_failed(make_store: Callable[..., ResponseStore]) -> None:
    now = [1000.0]
    replica, gateway = make_store(answer_timeout_s=10.0, now=lambda: now[0]), make_store(now=lambda: now[0])

    def status() -> tuple[str, bool]:
        found = gateway.find("o", "r")
        assert found is not None
        return found.content["status"], found.is_final

    replica.begin("o", {"id": "r", "output": [], "status": "in_progress"}, [], [item(1)])
    gateway.begin("o", {"id": "unlimited", "output": [], "status": "in_progress"}, [], [])
    now[0] += 10 + END_MARGIN_S
    assert status() == ("in_progress", False)
    now[0] += 1
    assert status() == ("failed", True)
    unlimited = gateway.find("o", "unlimited")
    assert unlimited is not None
    assert not unlimited.is_final
    replica.finish("o", {"id": "r", "output": [], "status": "completed"})
    assert status() == ("completed", True)


def test_a_file_of_the_first_version_is_taken_over(make_store: Callable[..., ResponseStore], tmp_path: Path) -> None:
    old = make_store()
    answer(old, "o", "a", item(1))
    old.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "db")) as database:
        database.execute("ALTER TABLE responses DROP COLUMN ends_by")
    store = make_store(answer_timeout_s=10.0)
    answer(store, "o", "b", item(2), previous="a")
    assert ids(store, "o", "b") == ["msg_1", "out_a", "msg_2", "out_b"]


def test_the_oldest_responses_of_an_owner_make_room(make_store: Callable[..., ResponseStore]) -> None:
    now = [0.0]
    store = make_store(max_bytes_per_owner=10_000, now=lambda: now[0])
    answer(store, "other", "x", item(0, "a" * 3000))
    for number in range(1, 6):
        now[0] += 1
        answer(store, "o", f"r{number}", item(number, "a" * 3000))
    assert [number for number in range(1, 6) if store.find("o", f"r{number}")] == [3, 4, 5]
    assert store.find("other", "x") is not None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_it_keeps_what_a_dictionary_keeps(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Random conversations of two owners, deleted at random, against a model in plain Python."""
    store = ResponseStore(tmp_path_factory.mktemp("store") / "db", max_age_s=1e9, max_bytes_per_owner=1e9)
    model: dict[tuple[str, str], list[str]] = {}
    owners: st.SearchStrategy[str] = st.sampled_from("ab")
    for number in range(data.draw(st.integers(1, 12))):
        owner = data.draw(owners)
        known = [name for who, name in model if who == owner]
        wants_deletion = data.draw(st.booleans())
        if known and wants_deletion:
            names: st.SearchStrategy[str] = st.sampled_from(known)
            name = data.draw(names)
            assert store.delete(owner, name)
            del model[owner, name]
        else:
            name = f"r{number}"
            previous = data.draw(st.sampled_from([None, *known]))
            answer(store, owner, name, item(number), previous=previous)
            history = model[owner, previous] if previous else []
            model[owner, name] = [*history, f"msg_{number}", f"out_{name}"]
        for (who, name), expected in model.items():
            assert ids(store, who, name) == expected
            assert ids(store, "ab".replace(who, ""), name) == []
    kept = {name for names in model.values() for name in names}
    for number in range(12):
        assert any(store.find_item(who, f"msg_{number}") for who in "ab") == (f"msg_{number}" in kept)
    store.close()
