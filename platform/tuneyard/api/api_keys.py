"""API keys: hashed at rest, with scopes, expiry and limits; a file that deployments watch."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock
from pydantic import AwareDatetime, Field, ValidationError

from tuneyard.core.atomic_files import write_atomically
from tuneyard.core.errors import ConfigError
from tuneyard.core.home import tuneyard_home
from tuneyard.core.strict_model import FrozenModel

PREFIX = "ty-"


class ApiKey(FrozenModel):
    """What is kept of a key; the key itself is shown once, when it is made."""

    id: str
    name: str
    sha256: str
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    models: tuple[str, ...] = ()
    """Models that it may use; none listed: all."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    max_streams: int | None = Field(default=None, ge=1)
    """Requests that may run at a time."""

    def is_expired(self, now: datetime.datetime) -> bool:
        return self.expires_at is not None and now >= self.expires_at


class KeyStore:
    """The keys of a file, `$TUNEYARD_HOME/api_keys.json` by default. Changes by others are seen at the next look."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or tuneyard_home() / "api_keys.json"
        self._seen: tuple[int, int] | None = None
        self._keys: dict[str, ApiKey] = {}

    @property
    def path(self) -> Path:
        return self._path

    def listed(self) -> list[ApiKey]:
        """All of them, oldest first. Raises ConfigError when the file is broken."""
        self._refresh()
        return sorted(self._keys.values(), key=lambda key: key.created_at)

    def find(self, secret: str) -> ApiKey | None:
        """The key with this secret, expired or not; None for an unknown one."""
        self._refresh()
        return self._keys.get(_digest(secret))

    def create(
        self,
        name: str,
        *,
        models: tuple[str, ...] = (),
        lives: datetime.timedelta | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        max_streams: int | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key, and its secret."""
        secret = PREFIX + secrets.token_urlsafe(32)
        now = datetime.datetime.now(datetime.UTC)
        key = ApiKey(
            id=secrets.token_hex(4),
            name=name,
            sha256=_digest(secret),
            created_at=now,
            expires_at=now + lives if lives is not None else None,
            models=models,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            max_streams=max_streams,
        )
        with self._changing() as keys:
            keys[key.sha256] = key
        return key, secret

    def revoke(self, key_id: str) -> ApiKey:
        """Removes a key. Raises ConfigError for an unknown id."""
        with self._changing() as keys:
            for digest, key in keys.items():
                if key.id == key_id:
                    return keys.pop(digest)
            known = ", ".join(f"{key.id} ({key.name})" for key in keys.values()) or "none"
            raise ConfigError(f"There is no key {key_id}. Known: {known}.")

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, ApiKey]]:
        """The keys under a lock between processes, written back atomically, readable by the owner only."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._path.with_suffix(".lock")):
            self._seen = None
            self._refresh()
            yield self._keys
            rows = [key.model_dump(mode="json") for key in self._keys.values()]
            write_atomically(self._path, json.dumps({"keys": rows}, indent=1), mode=0o600)

    def _refresh(self) -> None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._keys, self._seen = {}, None
            return
        # An atomic replacement has another inode, even within the clock's grain.
        if self._seen == (status.st_mtime_ns, status.st_ino):
            return
        try:
            rows = json.loads(self._path.read_bytes())["keys"]
            keys = [ApiKey.model_validate_json(json.dumps(row)) for row in rows]
        except (OSError, ValueError, KeyError, TypeError, ValidationError) as e:
            raise ConfigError(
                f"{self._path}: not a file of API keys ({e}). Restore it, or delete it and make new ones."
            ) from e
        self._keys = {key.sha256: key for key in keys}
        self._seen = (status.st_mtime_ns, status.st_ino)


def _digest(secret: str) -> str:
    """sha256; enough for 256 random bits, which nobody can guess through."""
    return hashlib.sha256(secret.encode()).hexdigest()
