"""The audit log: what administrators did, as lines that are only ever appended."""

from __future__ import annotations

import datetime
import getpass
import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from tuneyard.core.errors import ConfigError
from tuneyard.core.home import tuneyard_home

ADMIN_KEY_ACTOR = "admin key"
"""The actor of a request that came with the administrators' key, which has no name of its own."""

LOCK_TIMEOUT_S = 30.0
"""How long to wait for another process that appends a line."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One action. It never holds a prompt, an answer, or the secret of a key."""

    time: str
    """UTC, in ISO 8601."""
    actor: str
    """`user NAME` of the operating system, or ADMIN_KEY_ACTOR."""
    host: str
    """Name of the machine where the action was taken."""
    action: str
    """What was done, such as `key.create`."""
    target: str
    """What it was done to, such as a key's id and name, or `model@alias`."""
    before: str | None = None
    """Digest of the target before the action, or the value that changed; None if there was none."""
    after: str | None = None
    """The same after the action; None if the target is gone."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Further facts, such as the names of changed fields."""


class AuditLog:
    """The log in a file of JSON lines, `$TUNEYARD_HOME/audit.jsonl` by default, which only its owner can read."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or tuneyard_home() / "audit.jsonl"

    def append(
        self,
        action: str,
        target: str,
        *,
        actor: str | None = None,
        before: str | None = None,
        after: str | None = None,
        details: Mapping[str, Any] | None = None,
        is_taken: bool = True,
    ) -> None:
        """Appends one line, synced to the disk before this returns; `actor` of None is the operating system's user.

        Raises ConfigError if the file cannot be written. The message says that the action was taken all the same, or
        without `is_taken` that it was not: the caller then takes it only if this returns.
        """
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        host = socket.gethostname()
        event = AuditEvent(now, actor or os_user(), host, action, target, before, after, details or {})
        line = json.dumps(asdict(event), ensure_ascii=False) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Locked, because appends from several machines to one shared folder may overwrite each other.
            with FileLock(f"{self.path}.lock", timeout=LOCK_TIMEOUT_S, mode=0o600):
                descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                with os.fdopen(descriptor, "ab") as file:
                    file.write(line.encode())
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as e:  # FileLock's Timeout is one
            consequence = (
                f"The action {action} on {target} was taken, and is not in the log. Make the file writable."
                if is_taken
                else f"Therefore nothing was changed ({action} on {target}). Make the file writable and try again."
            )
            raise ConfigError(f"The audit log {self.path} cannot be written: {e}. {consequence}") from e

    def events(self) -> Iterator[AuditEvent]:
        """All events, oldest first; none without a file. Raises ConfigError for a line that is no event."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        except OSError as e:
            raise ConfigError(f"The audit log {self.path} cannot be read: {e}.") from e
        # Not splitlines: a name may hold a line separator of Unicode, which JSON does not escape.
        for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
            try:
                yield AuditEvent(**json.loads(line))
            except (ValueError, TypeError) as e:
                raise ConfigError(
                    f"{self.path}:{number}: not a line of the audit log ({e}). The log is only ever appended to: "
                    "somebody edited it, or a disk was full. Restore it from a backup, or remove the line."
                ) from e


def digest_of(value: Any) -> str:
    """Digest of a JSON value, with which `before` and `after` tell that a record changed: sha256, 16 hex digits."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def os_user() -> str:
    """The actor of a command: `user NAME`, or the user's number where it has no name."""
    try:
        return f"user {getpass.getuser()}"
    except (KeyError, OSError):  # Python 3.13 changed the error
        return f"user {os.getuid()}"
