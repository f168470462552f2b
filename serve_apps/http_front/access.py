"""Access: who may use a Serve application, in a form that reaches its replicas."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serve_apps.http_front.key_gate import KeyGate
from tuneyard.api.api_keys import KeyStore


@dataclass(frozen=True, slots=True)
class Access:
    """By default requests need no API key, and the administrators' routes are closed."""

    admin_key: str | None = None
    """The administrators' key."""
    key_file: Path | None = None
    """File of the API keys, as every node sees it. None: requests need no key."""

    def open_gate(self) -> KeyGate:
        """The gate of one replica. Each replica counts the limits of keys by itself."""
        return KeyGate(KeyStore(self.key_file) if self.key_file is not None else None)
