"""The administrators' key: whether a request has it, and the lines of the audit log about such requests."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable

from fastapi import Request

from serve_apps.http_front.admission import authorization_header
from tuneyard.core.errors import AdminKeyError, ConfigError
from tuneyard.storage.audit_log import ADMIN_KEY_ACTOR, AuditLog

logger = logging.getLogger(__name__)

RECORD_INTERVAL_S = 60.0
"""A parity check renders each row of a manifest, and pages read the same again: one line for all of them."""


def has_admin_key(request: Request, admin_key: str | None) -> bool:
    """Whether the request carries the administrators' key; never, if there is none."""
    secret = authorization_header(request).removeprefix("Bearer ")
    return admin_key is not None and secrets.compare_digest(secret.encode(), admin_key.encode())


def check_admin_key(request: Request, admin_key: str | None) -> None:
    """Raises AdminKeyError unless the request carries the administrators' key."""
    if not has_admin_key(request, admin_key):
        raise AdminKeyError(
            f"{request.url.path} is for administrators only. Send their key as 'Authorization: Bearer …'. It is the "
            "deployment's TUNEYARD_ADMIN_KEY, or else the content of $TUNEYARD_HOME/admin_key.",
            code="admin_key_required",
        )


class AdminRecorder:
    """Records what requests with the administrators' key read of other people, and what they delete.

    The same action on the same target has one line, and another one after each RECORD_INTERVAL_S in which it goes on.
    Without a log nothing is recorded. `now` gives seconds.
    """

    def __init__(self, audit_log: AuditLog | None, now: Callable[[], float] = time.monotonic) -> None:
        self._audit_log = audit_log
        self._now = now
        self._recorded_at: dict[tuple[str, str], float] = {}

    async def record(self, action: str, target: str) -> None:
        """Records the action, unless its last line is recent."""
        if self._audit_log is None:
            return
        now = self._now()
        self._recorded_at = {what: at for what, at in self._recorded_at.items() if now - at < RECORD_INTERVAL_S}
        if (action, target) not in self._recorded_at:
            self._recorded_at[action, target] = now
            await asyncio.to_thread(self._append, self._audit_log, action, target)

    def _append(self, audit_log: AuditLog, action: str, target: str) -> None:
        """The request is answered all the same where the log cannot be written: a replica's node may not see its
        folder."""
        try:
            audit_log.append(action, target, actor=ADMIN_KEY_ACTOR)
        except ConfigError as e:
            logger.warning("%s", e)
