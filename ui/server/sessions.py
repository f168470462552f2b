"""Signed-in people: their keys stay in this process, and the browser gets a random session id."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass

from ui.endpoints.visitor import Visitor

COOKIE = "tuneyard_session"
IDLE_S = 12 * 3600.0
"""Seconds without a request after which a person must sign in again."""
MAX_SESSIONS = 10_000


@dataclass
class Session:
    """A signed-in person."""

    visitor: Visitor
    used_at: float


class Sessions:
    """Sessions by their ids. A restart ends all of them; conversations are in the browser and stay."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

    def create(self, key: str) -> str:
        """Starts a session for a key that was checked. Returns its id, for the cookie."""
        self._drop_idle()
        session_id = secrets.token_urlsafe(32)
        self._sessions[session_id] = Session(Visitor(owner_of(key), key), time.monotonic())
        return session_id

    def find(self, session_id: str | None) -> Visitor | None:
        """The person; None if there is no such session."""
        session = self._sessions.get(session_id or "")
        if session is None or time.monotonic() - session.used_at > IDLE_S:
            return None
        session.used_at = time.monotonic()
        return session.visitor

    def end(self, session_id: str | None) -> None:
        """Forgets a person's key."""
        self._sessions.pop(session_id or "", None)

    def _drop_idle(self) -> None:
        """Forgets sessions that are over, and the oldest ones above the limit."""
        now = time.monotonic()
        oldest_first = sorted(self._sessions, key=lambda session_id: self._sessions[session_id].used_at)
        surplus = len(oldest_first) - MAX_SESSIONS + 1
        for place, session_id in enumerate(oldest_first):
            if place < surplus or now - self._sessions[session_id].used_at > IDLE_S:
                self.end(session_id)


def owner_of(key: str) -> str:
    """A name for the key's conversations in the browser: a digest from which the key cannot be found."""
    return hashlib.sha256(b"tuneyard chat page\0" + key.encode()).hexdigest()[:32]
