"""Storage locations: the path of a folder on a mounted disk, or the URI of a folder in an object store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit, urlunsplit

from pydantic import BeforeValidator, ValidationInfo

from tuneyard.core.home import tuneyard_home
from tuneyard.core.path_fields import reject_password, resolve_path


def is_uri(location: str) -> bool:
    """Whether the location is a URI; otherwise it is a path."""
    return "://" in location


def _resolve_location(value: object, info: ValidationInfo) -> object:
    """A path or a `file://` URI as an absolute path; any other URI unchanged, or ValueError if it holds a password."""
    text = str(value)
    if not isinstance(value, str | Path) or not is_uri(text):
        return resolve_path(value, info)
    if urlsplit(text).scheme == "file":
        return resolve_path(urlsplit(text).path, info)
    return reject_password(text)


StorageLocation = Annotated[str, BeforeValidator(_resolve_location)]
"""A folder (see AbsolutePath), or a URI that pyarrow.fs supports: `s3://bucket/path`, `gs://…`, `abfss://…`."""


def default_storage() -> str:
    """`$TUNEYARD_STORAGE`, by default Tuneyard's home folder. A path is absolute."""
    location = os.environ.get("TUNEYARD_STORAGE") or str(tuneyard_home())
    return location if is_uri(location) else str(Path(location).expanduser().resolve())


def child_location(location: str, *names: str) -> str:
    """The location of the folder or file `names` below another location. A URI keeps its query."""
    if not is_uri(location):
        return str(Path(location, *names))
    uri = urlsplit(location)
    return urlunsplit(uri._replace(path="/".join([uri.path.rstrip("/"), *names])))
