"""FilesPart: files and uploads as a part of the application."""

from __future__ import annotations

from fastapi import FastAPI

from serve_apps.keys.key_gate import KeyGate
from serve_apps.platform_app.context import PlatformContext
from serve_apps.platform_app.files.file_routes import add_file_routes
from serve_apps.platform_app.files.form_body import UploadDoor
from serve_apps.platform_app.files.upload_records import UploadRecords
from serve_apps.platform_app.files.upload_routes import add_upload_routes
from serve_apps.platform_app.files.upload_service import UploadService


class FilesPart:
    """See Part."""

    name = "files"

    def __init__(self, context: PlatformContext) -> None:
        self._context = context
        records = UploadRecords(context.files.records, context.config.upload_expiry_hours * 3600)
        self._uploads = UploadService(records, context.files)

    def add_routes(self, api: FastAPI, gate: KeyGate) -> None:
        """Adds /v1/files and /v1/uploads."""
        door = UploadDoor(gate, self._context.config.max_concurrent_uploads)
        add_file_routes(api, self._context, door)
        add_upload_routes(api, self._context, self._uploads, door)

    async def reconcile(self, now: float) -> None:  # noqa: ARG002  # the records' own clock decides
        """Deletes what has expired, and what processes that died have left."""
        await self._context.files.delete_overdue()
        await self._uploads.clean_up()

    async def close(self) -> None:
        """Nothing runs between the steps."""
