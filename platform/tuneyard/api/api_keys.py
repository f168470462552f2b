"""API keys: hashed at rest, with model scopes, expiry, limits and budgets, in a file that deployments re-read."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from filelock import FileLock
from pydantic import AwareDatetime, Field, ValidationError

from tuneyard.core.atomic_files import FolderSyncError, replacing
from tuneyard.core.errors import ConfigError
from tuneyard.core.home import tuneyard_home
from tuneyard.core.strict_model import FrozenModel
from tuneyard.storage.audit_log import AuditLog, digest_of

PREFIX = "ty-"


class ApiKey(FrozenModel):
    """The stored record of a key. The key itself is shown once, when it is created, and never stored."""

    id: str
    name: str
    sha256: str
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    models: tuple[str, ...] = ()
    """Ids of the models that the key may use; empty means all models."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    """Limit per replica, or of all replicas with `http.keys.rate_limits_store`; null: no limit. The same holds for
    the next field."""

    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Prompt and completion tokens together."""

    max_streams: int | None = Field(default=None, ge=1)
    """Answers that may be made at the same time; a request with `n` choices counts as n."""

    tokens_per_month: int | None = Field(default=None, ge=1)
    """Budget of prompt and completion tokens together, of all replicas, per calendar month in UTC; null: none. The same
    holds for the next field."""

    requests_per_month: int | None = Field(default=None, ge=1)
    """Budget of requests, invalid ones included."""

    @property
    def has_budget(self) -> bool:
        """Whether the key has a budget per month."""
        return self.tokens_per_month is not None or self.requests_per_month is not None

    def is_expired(self, now: datetime.datetime) -> bool:
        """Whether the key is no longer valid at `now`, which has a time zone."""
        return self.expires_at is not None and now >= self.expires_at


class KeyStore:
    """The keys in a file, `$TUNEYARD_HOME/api_keys.json` by default.

    Every call sees what other processes changed before it. All methods raise ConfigError when the file is broken. Each
    change is recorded in the audit log, `audit.jsonl` in the same folder, right before it is made: no change is missing
    there. A change that fails after its line has another line, `key.….failed`; after a crash between the two, the line
    stands alone.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or tuneyard_home() / "api_keys.json"
        self._file_version: tuple[int, int] | None = None
        self._keys: dict[str, ApiKey] = {}

    @property
    def path(self) -> Path:
        """The file, which need not exist."""
        return self._path

    def list_keys(self) -> list[ApiKey]:
        """Returns all keys, expired ones included, oldest first."""
        self._refresh()
        return sorted(self._keys.values(), key=lambda key: key.created_at)

    def find(self, secret: str) -> ApiKey | None:
        """Returns the key with this secret, expired or not; None for an unknown secret."""
        self._refresh()
        return self._keys.get(_digest(secret))

    def find_by_digest(self, sha256: str) -> ApiKey | None:
        """Returns the key whose secret has this digest, expired or not. A digest is no credential: never take it from a
        request."""
        self._refresh()
        return self._keys.get(sha256)

    def create(
        self,
        name: str,
        *,
        models: tuple[str, ...] = (),
        lifetime: datetime.timedelta | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        max_streams: int | None = None,
        requests_per_month: int | None = None,
        tokens_per_month: int | None = None,
    ) -> tuple[ApiKey, str]:
        """Creates a key. Returns its record and its secret, which cannot be read back later.

        `lifetime` of None never expires; the limits are those of ApiKey.
        """
        secret = PREFIX + secrets.token_urlsafe(32)
        now = datetime.datetime.now(datetime.UTC)
        key = ApiKey(
            id=secrets.token_hex(4),
            name=name,
            sha256=_digest(secret),
            created_at=now,
            expires_at=now + lifetime if lifetime is not None else None,
            models=models,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            max_streams=max_streams,
            requests_per_month=requests_per_month,
            tokens_per_month=tokens_per_month,
        )
        with self._locked_keys() as keys:
            self._save({**keys, key.sha256: key}, "key.create", None, key)
        return key, secret

    def update(self, key_id: str, changes: Mapping[str, int | None]) -> ApiKey:
        """Changes limits and budgets, by the names of ApiKey's fields; None removes one. Returns the new record.

        Raises ConfigError for an unknown id.
        """
        with self._locked_keys() as keys:
            before = self._find_id(keys, key_id)
            after = ApiKey.model_validate(before.model_dump() | dict(changes))
            self._save({**keys, before.sha256: after}, "key.update", before, after, sorted(changes))
        return after

    def revoke(self, key_id: str) -> ApiKey:
        """Removes a key and returns its record. Raises ConfigError for an unknown id."""
        with self._locked_keys() as keys:
            key = self._find_id(keys, key_id)
            others = {sha256: other for sha256, other in keys.items() if other is not key}
            self._save(others, "key.revoke", key, None)
        return key

    def _find_id(self, keys: Mapping[str, ApiKey], key_id: str) -> ApiKey:
        found = next((key for key in keys.values() if key.id == key_id), None)
        if found is None:
            known = ", ".join(f"{key.id} ({key.name})" for key in keys.values()) or "none"
            raise ConfigError(f"There is no key {key_id!r} in {self._path}. Known keys: {known}.")
        return found

    def _record(
        self, action: str, before: ApiKey | None, after: ApiKey | None, changed_fields: Sequence[str] = ()
    ) -> None:
        """Appends a line to the audit log beside the file of keys."""
        key = after or before
        assert key is not None
        AuditLog(self._path.with_name("audit.jsonl")).append(
            action,
            f"key {key.id} ({key.name})",
            before=_record_digest(before),
            after=_record_digest(after),
            details={"changed": {name: getattr(after, name) for name in changed_fields}} if changed_fields else None,
            is_taken=False,
        )

    @contextlib.contextmanager
    def _locked_keys(self) -> Iterator[Mapping[str, ApiKey]]:
        """Yields the keys while no other process can change them. Raises ConfigError if they cannot be written."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._path.with_suffix(".lock")):
                self._file_version = None
                self._refresh()
                yield self._keys
        except FolderSyncError as e:
            raise ConfigError(
                f"The API keys in {self._path} were changed, but the folder cannot be synced: {e}. A power failure may "
                "undo the change. Check the disk, then `tuneyard keys list`. The secret of a new key is lost: revoke "
                "it."
            ) from e
        except OSError as e:
            raise ConfigError(
                f"The API keys in {self._path} cannot be written: {e}. Nothing was changed. Make the folder writable."
            ) from e

    def _save(
        self,
        keys: Mapping[str, ApiKey],
        action: str,
        before: ApiKey | None,
        after: ApiKey | None,
        changed_fields: Sequence[str] = (),
    ) -> None:
        """Records the action and replaces the keys. See _record for the other arguments.

        The file is replaced atomically and readable by its owner only. If it cannot be replaced after the action was
        recorded, the failure is recorded too.
        """
        rows = [key.model_dump(mode="json") for key in keys.values()]
        is_recorded = False
        try:
            with replacing(self._path, json.dumps({"keys": rows}, indent=1), mode=0o600):
                self._record(action, before, after, changed_fields)
                is_recorded = True
        except FolderSyncError:
            raise
        except OSError:
            if is_recorded:
                self._record(f"{action}.failed", after, before, changed_fields)
            raise

    def _refresh(self) -> None:
        """Reads the file again if it changed."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._keys, self._file_version = {}, None
            return
        # An atomic replacement changes the inode, even if both writes have the same time stamp.
        if self._file_version == (status.st_mtime_ns, status.st_ino):
            return
        try:
            rows = json.loads(self._path.read_bytes())["keys"]
            keys = [ApiKey.model_validate_json(json.dumps(row)) for row in rows]
        except (OSError, ValueError, KeyError, TypeError, ValidationError) as e:
            raise ConfigError(
                f"{self._path}: not a file of API keys ({e}). Restore a backup, or delete it and create new keys."
            ) from e
        self._keys = {key.sha256: key for key in keys}
        self._file_version = (status.st_mtime_ns, status.st_ino)


def _record_digest(key: ApiKey | None) -> str | None:
    """Digest of a key's record, with which the audit log tells that it changed."""
    return digest_of(key.model_dump(mode="json", exclude={"sha256"})) if key is not None else None


def _digest(secret: str) -> str:
    """Returns the sha256 of a secret. A slow hash is not needed: secrets hold 256 random bits and cannot be guessed."""
    return hashlib.sha256(secret.encode()).hexdigest()
