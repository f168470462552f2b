"""Where runs and models lie: a folder on a mounted disk, or an object store, through pyarrow.fs."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.fs as pafs
from pydantic import BeforeValidator, ValidationInfo

from tuneyard.core.errors import StorageError, StorageFullError
from tuneyard.core.home import tuneyard_home
from tuneyard.core.strict_config import resolved_path, without_password

RETRY_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""A store that is away for half a minute costs nothing but that time."""

REFUSALS = ("ACCESS_DENIED", "SIGNATURE_DOES_NOT_MATCH", "INVALID_ACCESS_KEY_ID", "NO_SUCH_BUCKET", "To create buckets")
"""In the text of an error that no patience mends."""

UNKNOWN_LOCATION = (pa.ArrowInvalid, pa.ArrowNotImplementedError)
"""What pyarrow raises for a URI that it cannot read, or whose scheme it does not know: no patience mends that."""

Result = TypeVar("Result")


def is_uri(location: str) -> bool:
    """Whether it names an object store, or else a path."""
    return "://" in location


def _location(value: object, info: ValidationInfo) -> object:
    """A path made absolute; a URI as it is, unless it holds a password."""
    text = str(value)
    if not isinstance(value, str | Path) or not is_uri(text):
        return resolved_path(value, info)
    if urlsplit(text).scheme == "file":
        return resolved_path(urlsplit(text).path, info)
    return without_password(text)


Location = Annotated[str, BeforeValidator(_location)]
"""A folder (see config.AbsolutePath), or a URI that pyarrow.fs knows: s3://bucket/path, gs://…, abfss://…"""


def default_storage() -> str:
    """`$TUNEYARD_STORAGE`, or else the home."""
    named = os.environ.get("TUNEYARD_STORAGE") or str(tuneyard_home())
    return named if is_uri(named) else str(Path(named).expanduser().resolve())


def child_location(location: str, *names: str) -> str:
    """The location of something below another."""
    if not is_uri(location):
        return str(Path(location, *names))
    parts = urlsplit(location)
    return urlunsplit(parts._replace(path="/".join([parts.path.rstrip("/"), *names])))


@dataclass(frozen=True, slots=True)
class StorageFolder:
    """A folder that need not exist yet. Every method raises StorageError when the store refuses, or stays away."""

    location: str
    filesystem: pafs.FileSystem
    path: str
    """Its path as `filesystem` has it."""

    @classmethod
    def open(cls, location: str) -> Self:
        """The folder of a location; nothing is asked of the store yet."""
        if not is_uri(location):
            return cls(location, pafs.LocalFileSystem(), location)
        try:
            # Without a region in the URI or the environment, the store is asked for it.
            filesystem, path = _patiently(location, lambda: pafs.FileSystem.from_uri(location))
        except UNKNOWN_LOCATION as e:
            raise StorageError(f"{location}: not a location that pyarrow.fs knows (s3://, gs://, abfss://): {e}") from e
        return cls(location, filesystem, path.rstrip("/"))

    @property
    def local(self) -> Path | None:
        """The folder as a path, where it lies on a mounted disk."""
        return None if is_uri(self.location) else Path(self.location)

    def child(self, *names: str) -> StorageFolder:
        """A folder below."""
        return StorageFolder(child_location(self.location, *names), self.filesystem, "/".join([self.path, *names]))

    def size_of(self, name: str) -> int | None:
        """Bytes of a file, or None when there is no such file."""
        info = self.patiently(f"{self.location}/{name}", lambda: self.filesystem.get_file_info(f"{self.path}/{name}"))
        return int(info.size) if info.type == pafs.FileType.File else None

    def read(self, name: str) -> bytes | None:
        """A small file, or None when there is none."""

        def read() -> bytes | None:
            try:
                with self.filesystem.open_input_stream(f"{self.path}/{name}", compression=None) as file:
                    return bytes(file.read())
            except FileNotFoundError:
                return None

        return self.patiently(f"{self.location}/{name}", read)

    def write(self, name: str, content: bytes) -> None:
        """Replaces a small file as a whole."""

        def write() -> None:
            if (local := self.local) is not None:
                local.mkdir(parents=True, exist_ok=True)
                partial = local / f".{name}.partial-{os.getpid()}"
                partial.write_bytes(content)
                partial.replace(local / name)
                return
            # An object appears when it is closed, whole.
            with self.filesystem.open_output_stream(f"{self.path}/{name}", compression=None) as file:
                file.write(content)

        self.patiently(f"{self.location}/{name}", write)

    def names(self) -> list[str]:
        """What lies directly inside, sorted; nothing for a folder that does not exist."""
        selector = pafs.FileSelector(self.path, allow_not_found=True)
        found = self.patiently(self.location, lambda: self.filesystem.get_file_info(selector))
        return sorted(info.base_name for info in found)

    def patiently(self, what: str, action: Callable[[], Result]) -> Result:
        """The action's result, tried again while an object store stays away, for half a minute."""
        if self.local is None:
            return _patiently(what, action)
        try:
            return action()
        except FileNotFoundError:
            raise
        except OSError as e:
            _raise_if_full(what, e)
            raise StorageError(f"{what}: {e.strerror or e}") from e


def _patiently(what: str, action: Callable[[], Result]) -> Result:
    delays = iter(RETRY_DELAYS_S)
    while True:
        try:
            return action()
        except (FileNotFoundError, *UNKNOWN_LOCATION):
            raise
        except (OSError, pa.ArrowException) as e:
            _raise_if_full(what, e)
            delay = None if any(word in str(e) for word in REFUSALS) else next(delays, None)
            if delay is None:
                raise StorageError(f"{what}: the store says: {e}{_hint(e)}") from e
            time.sleep(delay)


def _raise_if_full(what: str, error: Exception) -> None:
    """The disk here, which a copy goes to or comes from."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise StorageFullError(f"{what}: the disk or the quota here is full. Free space and start again.") from error


def _hint(error: Exception) -> str:
    text = str(error)
    if "ACCESS_DENIED" in text or "SIGNATURE" in text or "ACCESS_KEY" in text:
        return "\nCredentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, or the machine's role."
    if "NETWORK_CONNECTION" in text:
        return "\nIs the store up, and its address right (AWS_ENDPOINT_URL, or ?endpoint_override= in the URI)?"
    return ""
