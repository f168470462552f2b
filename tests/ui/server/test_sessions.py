from __future__ import annotations

import pytest

from ui.server import sessions as module
from ui.server.sessions import Sessions, owner_of


def test_a_session_gives_its_key_until_it_ends() -> None:
    sessions = Sessions()
    session_id = sessions.create("ty-secret")
    visitor = sessions.find(session_id)
    assert visitor is not None
    assert visitor.key == "ty-secret"
    assert "secret" not in visitor.owner + session_id
    sessions.end(session_id)
    assert sessions.find(session_id) is None
    assert sessions.find(None) is None


def test_one_key_has_one_owner_and_each_session_an_id_of_its_own() -> None:
    sessions = Sessions()
    first, second, other = sessions.create("a"), sessions.create("a"), sessions.create("b")
    assert len({first, second, other}) == 3
    assert owner_of("a") != owner_of("b")
    assert sessions.find(first) == sessions.find(second)


def test_idle_and_surplus_sessions_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SESSIONS", 3)
    sessions = Sessions()
    ids = [sessions.create("a") for _ in range(5)]
    assert [sessions.find(session_id) is not None for session_id in ids] == [False, False, True, True, True]
    monkeypatch.setattr(module, "IDLE_S", -1.0)
    assert sessions.find(ids[-1]) is None
