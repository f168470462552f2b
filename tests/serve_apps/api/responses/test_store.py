"""The store of responses, in SQLite and in PostgreSQL: owners, shared items, leases, age and size."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve_apps.api.responses.store import LEASE_S, ResponseStore
from tests.postgresql_server import PostgresqlServer
from tuneyard.core.errors import ResponseNotFoundError
from tuneyard.storage.sql.location import SqlLocation

StoreFactory = Callable[..., ResponseStore]


def open_store(location: SqlLocation, **options: Any) -> ResponseStore:
    return ResponseStore(location, **{"max_age_s": 100.0, "max_bytes_per_owner": 2**20} | options)


@pytest.fixture
def make_store(sql_location: SqlLocation) -> Iterator[StoreFactory]:
    """Makes a store; all of one test share a database."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(contextlib.closing(open_store(sql_location, **options)))


def item(number: int, text: str = "") -> dict[str, Any]:
    return {"type": "message", "id": f"msg_{number}", "content": text}


def answer(store: ResponseStore, owner: str, name: str, *items: dict[str, Any], previous: str | None = None) -> None:
    history = store.items_of(owner, previous, with_output=True) if previous else []
    store.begin(owner, {"id": name, "output": []}, history, items)
    store.finish(owner, {"id": name, "output": [{"type": "message", "id": f"out_{name}"}]})


def ids(store: ResponseStore, owner: str, name: str) -> list[str]:
    return [item.content["id"] for item in store.items_of(owner, name, with_output=True)]


def test_a_sqlite_file_is_private(tmp_path: Path) -> None:
    with contextlib.closing(open_store(SqlLocation(file=tmp_path / "db"))) as store:
        store.begin("o", {"id": "r", "output": []}, [], [item(1)])
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("db*")}
    assert modes.keys() >= {"db", "db-wal"}
    assert set(modes.values()) == {0o600}


def test_it_is_shared_by_processes(make_store: StoreFactory) -> None:
    store, other = make_store(), make_store()
    store.begin("o", {"id": "r", "output": []}, [], [item(1)])
    assert other.find("o", "r") is not None
    assert store.wanted(["r", "unknown"]) == {"r"}
    other.cancel("x", "r")
    assert store.wanted(["r"]) == {"r"}
    other.cancel("o", "r")
    assert store.wanted(["r"]) == set()
    store.finish("o", {"id": "r", "output": []})
    found = other.find("o", "r")
    assert found is not None
    assert found.is_final


def test_a_conversation_shares_items_and_outlives_its_first_response(make_store: StoreFactory) -> None:
    store = make_store()
    answer(store, "o", "a", item(1))
    answer(store, "o", "b", item(2), previous="a")
    assert ids(store, "o", "b") == ["msg_1", "out_a", "msg_2", "out_b"]
    assert store.delete("o", "a")
    assert not store.delete("o", "a")
    assert ids(store, "o", "b") == ["msg_1", "out_a", "msg_2", "out_b"]
    assert store.delete("o", "b")
    assert store.find_item("o", "msg_1") is None


def test_old_responses_are_not_found_and_deleted(make_store: StoreFactory) -> None:
    now = [1000.0]
    store = make_store(now=lambda: now[0])
    answer(store, "o", "a", item(1))
    now[0] += 101
    assert store.find("o", "a") is None
    answer(store, "o", "b", item(2))
    assert store.find_item("o", "msg_1") is None


def test_a_response_whose_lease_is_not_renewed_is_failed(make_store: StoreFactory) -> None:
    now = [1000.0]
    replica, gateway = make_store(now=lambda: now[0], max_age_s=1e9), make_store(now=lambda: now[0], max_age_s=1e9)

    def status() -> tuple[str, bool]:
        found = gateway.find("o", "r")
        assert found is not None
        return found.content["status"], found.is_final

    replica.begin("o", {"id": "r", "output": [], "status": "in_progress"}, [], [item(1)])
    for _ in range(3):
        now[0] += LEASE_S
        assert status() == ("in_progress", False)
        replica.renew_leases(["r", "unknown"])
    now[0] += LEASE_S + 1
    assert status() == ("failed", True)
    replica.finish("o", {"id": "r", "output": [], "status": "completed"})
    replica.renew_leases(["r"])
    assert status() == ("completed", True)


def test_a_file_of_an_earlier_version_is_taken_over(tmp_path: Path) -> None:
    now = [1000.0]
    location = SqlLocation(file=tmp_path / "db")
    old = open_store(location, now=lambda: now[0])
    answer(old, "o", "a", item(1))
    old.begin("o", {"id": "unfinished", "output": [], "status": "in_progress"}, [], [item(9)])
    old.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "db")) as database:
        database.execute("ALTER TABLE responses DROP COLUMN ends_by")
    store = open_store(location, now=lambda: now[0])
    answer(store, "o", "b", item(2), previous="a")
    assert ids(store, "o", "b") == ["msg_1", "out_a", "msg_2", "out_b"]
    # Its process may still run, so it counts as failed only after a lease.
    found = store.find("o", "unfinished")
    assert found is not None
    assert not found.is_final
    now[0] += LEASE_S + 1
    found = store.find("o", "unfinished")
    store.close()
    assert found is not None
    assert found.content["status"] == "failed"


def test_a_response_cannot_continue_one_that_was_deleted_meanwhile(make_store: StoreFactory) -> None:
    store = make_store()
    answer(store, "o", "a", item(1))
    history = store.items_of("o", "a", with_output=True)
    store.delete("o", "a")
    answer(store, "o", "b", item(2))  # may get the numbers of the deleted items
    with pytest.raises(ResponseNotFoundError) as error:
        store.begin("o", {"id": "c", "output": []}, history, [item(3)])
    assert error.value.code == "previous_response_not_found"
    assert store.find("o", "c") is None


def test_owners_write_at_the_same_time(make_store: StoreFactory) -> None:
    stores = [make_store(max_bytes_per_owner=3000), make_store(max_bytes_per_owner=3000)]

    def work(number: int) -> None:
        store, owner = stores[number % 2], f"o{number % 3}"
        answer(store, owner, f"r{number}", item(number, "a" * 900))
        store.renew_leases([f"r{other}" for other in range(number)])
        if number % 4 == 0:
            store.delete(owner, f"r{number}")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(60)))
    for owner in ("o0", "o1", "o2"):
        kept = [number for number in range(60) if stores[0].find(owner, f"r{number}")]
        assert 1 <= len(kept) <= 3
        for number in kept:
            assert ids(stores[1], owner, f"r{number}") == [f"msg_{number}", f"out_r{number}"]


@pytest.mark.parametrize("text", ["nul \0 inside", "x" * 5000, "é" * 300], ids=["nul", "long", "wide"])
def test_any_id_of_a_client_can_be_stored_and_asked_for(make_store: StoreFactory, text: str) -> None:
    store = make_store()
    answer(store, "o", "a", {"type": "message", "id": text, "content": text})
    found = store.find_item("o", text)
    assert found is not None
    assert found.content["id"] == text
    assert store.find("o", text) is None
    assert not store.delete("o", text)


def test_the_oldest_responses_of_an_owner_make_room(make_store: StoreFactory) -> None:
    now = [0.0]
    store = make_store(max_bytes_per_owner=10_000, now=lambda: now[0])
    answer(store, "other", "x", item(0, "a" * 3000))
    for number in range(1, 6):
        now[0] += 1
        answer(store, "o", f"r{number}", item(number, "a" * 3000))
    assert [number for number in range(1, 6) if store.find("o", f"r{number}")] == [3, 4, 5]
    assert store.find("other", "x") is not None


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_it_keeps_what_a_dictionary_keeps(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    """Random conversations of two owners, deleted at random, against a model in plain Python."""
    if kind == "sqlite":
        location = SqlLocation(file=tmp_path_factory.mktemp("store") / "db")
    else:
        server: PostgresqlServer = request.getfixturevalue("postgresql")
        location = SqlLocation(url=server.create_database(), password_file=server.password_file)
    with contextlib.closing(open_store(location, max_age_s=1e9, max_bytes_per_owner=1e9)) as store:
        check_against_a_dictionary(store, data)


def check_against_a_dictionary(store: ResponseStore, data: st.DataObject) -> None:
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
