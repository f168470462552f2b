"""Access: who may use a Serve application, in a form that reaches its replicas."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from serve_apps.http_front.key_gate import KeyGate
from tuneyard.api.api_keys import KeyStore
from tuneyard.configs.responses import ResponsesConfig
from tuneyard.configs.serve import HttpConfig


@dataclass(frozen=True, slots=True)
class Access:
    """By default requests need no API key, and the administrators' routes are closed."""

    admin_key: str | None = None
    """The administrators' key."""
    key_file: Path | None = None
    """File of the API keys, as every node sees it. None: requests need no key."""
    http: HttpConfig = field(default_factory=lambda: HttpConfig(allowed_hosts=("*",)))
    """The deployment's section `http`: hosts, origins and limits of requests."""

    responses: ResponsesConfig = field(default_factory=ResponsesConfig)
    """The deployment's section `responses`: what /v1/responses stores."""

    def open_gate(self) -> KeyGate:
        """The gate of one replica. Each replica counts the limits of keys by itself."""
        return KeyGate(KeyStore(self.key_file) if self.key_file is not None else None)
