"""Idempotency keys: a request that is sent again, because its answer was lost, creates nothing new."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from serve_apps.platform_app.store.tables import IDEMPOTENCY_KEYS
from tuneyard.core.errors import RequestError
from tuneyard.storage.sql.text_keys import text_key

HEADER = "Idempotency-Key"
KEPT_S = 24 * 3600.0
"""How long a key is remembered."""


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """A request that creates an object, and its Idempotency-Key; "" is none."""

    owner: str
    scope: str
    """What is created, such as `fine_tuning.jobs`."""
    key: str
    content: Any
    """The request as JSON: the same key with another content is an error."""

    def claim(self, connection: Connection, object_id: str, now: float) -> str:
        """The id of the object that this request creates: of the one that it created before, if it was sent before.

        Call it in the transaction that creates the object, `writing(lock=owner)`, and create it only if the result is
        `object_id`. Raises RequestError if the key came with another content before.
        """
        if not self.key:
            return object_id
        table, digest = IDEMPOTENCY_KEYS, _digest(self.content)
        connection.execute(delete(table).where(table.c.created_at < now - KEPT_S))
        known = (table.c.owner == self.owner) & (table.c.scope == self.scope) & (table.c.key == text_key(self.key))
        row = connection.execute(select(table.c.object_id, table.c.request_digest).where(known)).first()
        if row is None:
            values = {"owner": self.owner, "scope": self.scope, "key": text_key(self.key)}
            connection.execute(
                insert(table).values(**values, request_digest=digest, object_id=object_id, created_at=now)
            )
            return object_id
        if row.request_digest != digest:
            raise RequestError(
                f"The {HEADER} {self.key[:100]!r} was sent before with another request. Send a new key with each new "
                "request, and the same key only to repeat the same request.",
                code="idempotency_key_reused",
            )
        return str(row.object_id)


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
