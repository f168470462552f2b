"""StorageFolder: small files in a folder on a mounted disk or in an object store, through pyarrow.fs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pyarrow.fs as pafs

from tuneyard.core.atomic_files import write_atomically
from tuneyard.core.errors import StorageError
from tuneyard.storage.location import child_location, is_uri
from tuneyard.storage.retries import UNKNOWN_LOCATION_ERRORS, Result, raise_if_disk_full, with_retries


@dataclass(frozen=True, slots=True)
class StorageFolder:
    """A folder, which may not exist yet.

    Every method raises StorageError if the store refuses a request or cannot be reached for longer than all retries.
    """

    location: str
    filesystem: pafs.FileSystem
    path: str
    """The folder's path inside `filesystem`."""

    @classmethod
    def open(cls, location: str) -> Self:
        """The folder at a path or URI. Sends no request, except for the region of an S3 bucket if none is configured.

        Raises StorageError for a URI that pyarrow.fs does not support.
        """
        if not is_uri(location):
            return cls(location, pafs.LocalFileSystem(), location)
        try:
            # Without a region in the URI or the environment, pyarrow asks the store for it.
            filesystem, path = with_retries(location, lambda: pafs.FileSystem.from_uri(location))
        except UNKNOWN_LOCATION_ERRORS as e:
            raise StorageError(
                f"{location}: pyarrow.fs does not support this location (s3://, gs://, abfss:// work): {e}"
            ) from e
        return cls(location, filesystem, path.rstrip("/"))

    @property
    def local(self) -> Path | None:
        """The folder's path on a mounted disk; None in an object store."""
        return None if is_uri(self.location) else Path(self.location)

    def child(self, *names: str) -> StorageFolder:
        """The folder `names` below this one."""
        return StorageFolder(child_location(self.location, *names), self.filesystem, "/".join([self.path, *names]))

    def size_of(self, name: str) -> int | None:
        """Bytes of a file; None if there is no such file."""
        info = self.with_retries(
            f"{self.location}/{name}", lambda: self.filesystem.get_file_info(f"{self.path}/{name}")
        )
        return int(info.size) if info.type == pafs.FileType.File else None

    def read(self, name: str) -> bytes | None:
        """The content of a small file; None if there is no such file."""

        def read_whole() -> bytes | None:
            try:
                with self.filesystem.open_input_stream(f"{self.path}/{name}", compression=None) as file:
                    return bytes(file.read())
            except FileNotFoundError:
                return None

        return self.with_retries(f"{self.location}/{name}", read_whole)

    def write(self, name: str, content: bytes) -> None:
        """Writes or replaces a small file. A reader sees the old content or the new content, never a mixture."""

        def write_whole() -> None:
            if (local := self.local) is not None:
                local.mkdir(parents=True, exist_ok=True)
                write_atomically(local / name, content)
                return
            # An object becomes visible when its stream is closed, complete.
            with self.filesystem.open_output_stream(f"{self.path}/{name}", compression=None) as file:
                file.write(content)

        self.with_retries(f"{self.location}/{name}", write_whole)

    def names(self) -> list[str]:
        """The names of the files and folders directly inside, sorted; empty if the folder does not exist."""
        selector = pafs.FileSelector(self.path, allow_not_found=True)
        infos = self.with_retries(self.location, lambda: self.filesystem.get_file_info(selector))
        return sorted(info.base_name for info in infos)

    def delete(self) -> None:
        """Deletes the folder with everything in it. A folder that does not exist is no error."""
        with contextlib.suppress(FileNotFoundError):
            self.with_retries(self.location, lambda: self.filesystem.delete_dir(self.path))

    def with_retries(self, subject: str, request: Callable[[], Result]) -> Result:
        """The result of `request`, retried in an object store (see retries.with_retries), never on a mounted disk.

        Raises FileNotFoundError unchanged; any other OSError becomes a StorageError or StorageFullError whose message
        begins with `subject`.
        """
        if self.local is None:
            return with_retries(subject, request)
        try:
            return request()
        except FileNotFoundError:
            raise
        except OSError as e:
            raise_if_disk_full(subject, e)
            raise StorageError(f"{subject}: {e.strerror or e}") from e
