"""PlatformContext: what every part is built with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from fastapi import Request

from serve_apps.gateway.model_directory import ModelDirectory
from serve_apps.gateway.owner_calls import OwnerCalls
from serve_apps.http_front.access import Access
from serve_apps.http_front.admin_key import AdminRecorder, check_admin_key, has_admin_key
from serve_apps.http_front.admission import authorization_header
from serve_apps.keys.key_gate import KeyGate
from serve_apps.keys.model_scope import owner_digest
from serve_apps.platform_app.files.content_store import ContentStore
from serve_apps.platform_app.files.file_service import FileService
from serve_apps.platform_app.files.records import FileRecords
from serve_apps.tracing.span import current_span
from tuneyard.configs.platform_api.platform_config import PlatformConfig
from tuneyard.configs.serve import HttpConfig
from tuneyard.storage.audit_log import AuditLog
from tuneyard.storage.sql.database import SqlDatabase


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is."""

    owner: str
    """owner_digest of the API key; "" where no key is needed, and for an administrator."""
    is_admin: bool = False
    """Whether the request has the administrators' key."""


@dataclass(frozen=True, slots=True)
class PlatformContext:
    """The services of one process: of a replica of the API, or of the reconciler."""

    config: PlatformConfig
    access: Access
    gate: KeyGate
    directory: ModelDirectory
    database: SqlDatabase
    files: FileService
    calls: OwnerCalls
    """Requests to models for work that its owner has asked for before."""
    admin_recorder: AdminRecorder
    """What requests with the administrators' key do to what is others'."""
    job_variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Environment variables that jobs get from where the deployment was started; they may be secrets."""

    @classmethod
    def open(
        cls,
        config: PlatformConfig,
        access: Access,
        gate: KeyGate,
        directory: ModelDirectory,
        database: SqlDatabase,
        job_variables: Mapping[str, str] | None = None,
    ) -> Self:
        """The services on an open database."""
        records = FileRecords(database, config.max_gib_per_key * 2**30)
        files = FileService(records, ContentStore(config.files))
        recorder = AdminRecorder(AuditLog(access.audit_file) if access.audit_file is not None else None)
        calls = OwnerCalls(directory, gate)
        return cls(config, access, gate, directory, database, files, calls, recorder, job_variables or {})

    @property
    def http(self) -> HttpConfig:
        """The deployment's section `http`."""
        return self.access.http

    def owner_of(self, request: Request) -> str:
        """The owner that a request's key stands for. Raises AuthenticationError. Counts against no limit."""
        key = self.gate.authenticate(authorization_header(request))
        current_span().set("tuneyard.key.name", key.name if key is not None else "")
        return owner_digest(key)

    def caller(self, request: Request) -> Caller:
        """As owner_of, for routes where administrators may do more."""
        if has_admin_key(request, self.access.admin_key):
            return Caller("", is_admin=True)
        return Caller(self.owner_of(request))

    def check_admin(self, request: Request) -> None:
        """Raises AdminKeyError unless the request has the administrators' key."""
        check_admin_key(request, self.access.admin_key)
