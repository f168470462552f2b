"""Files and uploads."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from tuneyard.api.wire.base import Items, RequestModel, WireModel
from tuneyard.api.wire.platform_api.lists import PageQuery
from tuneyard.core.errors import RequestError

FilePurpose = Literal["fine-tune", "fine-tune-results", "batch", "batch_output", "evals"]

UPLOAD_PURPOSES: tuple[FilePurpose, ...] = ("fine-tune", "batch", "evals")
"""What a client may upload; files of the other purposes are results."""

OTHER_PURPOSES = ("assistants", "assistants_output", "vision", "user_data")
"""OpenAI's purposes of APIs that this server does not have."""

MIN_EXPIRY_S, MAX_EXPIRY_S = 3600, 30 * 24 * 3600
"""OpenAI's bounds of expires_after.seconds."""

MAX_FILENAME_CHARACTERS = 255


def check_purpose(purpose: Any) -> FilePurpose:
    """The purpose of an upload. Raises RequestError, by name for what OpenAI has and this server has not."""
    for known in UPLOAD_PURPOSES:
        if purpose == known:
            return known
    allowed = ", ".join(UPLOAD_PURPOSES)
    if purpose in OTHER_PURPOSES:
        reason = f"files of the purpose {purpose!r} belong to an API that this server does not have"
    elif purpose in ("fine-tune-results", "batch_output"):
        reason = f"files of the purpose {purpose!r} are results, which only the server writes"
    else:
        reason = f"{str(purpose)[:100]!r} is no purpose of a file"
    raise RequestError(
        f"Invalid value for 'purpose': {reason}. Send one of: {allowed}.", param="purpose", code="invalid_value"
    )


def clean_filename(filename: str) -> str:
    """The name of a file as it is shown: the last part of a path, without control characters.

    It never becomes a path here. Raises RequestError for a name that is empty or too long.
    """
    name = "".join(character for character in filename if character.isprintable())
    name = name.replace("\\", "/").rstrip("/").rpartition("/")[2].strip()
    if not name or name in (".", ".."):
        raise RequestError("The file has no name. Send a filename.", param="file", code="invalid_value")
    if len(name) > MAX_FILENAME_CHARACTERS:
        raise RequestError(
            f"The file's name has {len(name):,} characters; it must have at most {MAX_FILENAME_CHARACTERS}.",
            param="file",
            code="invalid_value",
        )
    return name


class ExpiresAfter(RequestModel):
    """When a file expires."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=MIN_EXPIRY_S, le=MAX_EXPIRY_S)


class FileObject(WireModel):
    """A file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: FilePurpose
    status: Literal["uploaded", "processed", "error"]
    status_details: str | None
    """What is wrong with the content, if the status is `error`."""
    sha256: str
    """SHA-256 of the content, in hexadecimal digits; OpenAI has no such field."""


class DeletedFile(WireModel):
    """Answer to the deletion of a file."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class FileQuery(PageQuery):
    """Query parameters of GET /v1/files."""

    limit: int = Field(default=10_000, ge=1, le=10_000)
    """The most files of the page."""
    purpose: str | None = Field(default=None, max_length=64)
    """Only files with this purpose."""


class UploadRequest(RequestModel):
    """Begins an upload in parts."""

    bytes: int = Field(ge=1)
    filename: str
    mime_type: str = Field(max_length=255)
    purpose: str
    expires_after: ExpiresAfter | None = None

    def check(self) -> None:
        """Raises RequestError for a wrong purpose or name."""
        check_purpose(self.purpose)
        clean_filename(self.filename)


class CompleteRequest(RequestModel):
    """Makes the parts of an upload a file, in this order."""

    part_ids: Items[str] = Field(min_length=1, max_length=10_000)
    md5: str | None = None

    @field_validator("md5")
    @classmethod
    def _lower(cls, md5: str | None) -> str | None:
        return md5.lower() if md5 is not None else None


class UploadObject(WireModel):
    """An upload."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: FilePurpose
    status: Literal["pending", "completed", "cancelled", "expired"]
    file: FileObject | None


class UploadPart(WireModel):
    """A part of an upload."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str
