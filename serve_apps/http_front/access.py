"""Access: who may use a Serve application, in a form that reaches its replicas."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from serve_apps.keys.counting import open_counting
from serve_apps.keys.key_gate import KeyGate
from serve_apps.keys.metrics import KeyMetrics
from serve_apps.tracing.tracing import TracingOptions
from tuneyard.api.api_keys import KeyStore
from tuneyard.api.usage_ledger import usage_location
from tuneyard.configs.database import DatabaseConfig
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

    database: DatabaseConfig | None = None
    """The deployment's section `database`: where it is stored. None: in SQLite files."""

    tracing: TracingOptions | None = None
    """Where traces of requests go. None: nowhere."""

    audit_file: Path | None = None
    """File of the audit log, where the use of the administrators' key is recorded. None: nowhere."""

    keeps_usage: bool = True
    """Whether the usage of API keys is kept: in the database, else in a SQLite file beside the keys."""

    def open_gate(self, replica: str = "") -> KeyGate:
        """The gate of one process, whose metrics have the label `replica`. Raises what open_counting raises."""
        if self.key_file is None:
            return KeyGate(None)
        metrics = KeyMetrics(replica)
        usage = usage_location(self.key_file, self.database) if self.keeps_usage else None
        counting = open_counting(self.http.keys, usage, metrics)
        return KeyGate(KeyStore(self.key_file), counting=counting, metrics=metrics)
