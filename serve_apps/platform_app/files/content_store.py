"""ContentStore: the bytes of files and parts, in a folder or in an object store."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from anyio import to_thread

from tuneyard.core.errors import StorageError
from tuneyard.storage.folder import StorageFolder
from tuneyard.storage.location import child_location
from tuneyard.storage.retries import raise_if_disk_full

BLOCK_BYTES = 2**20
"""Bytes that are read or written at once."""

INCOMING = ".incoming"
"""Folder, beside the content, of what is still being received. A rename makes it content."""


class IncomingContent(Protocol):
    """Content that is being received. Its methods block; they are called one after another, from any thread."""

    def write(self, data: bytes) -> None:
        """Appends. Raises StorageFullError or StorageError."""

    def head(self, size: int) -> bytes:
        """The first bytes that were written."""

    def publish(self, name: str) -> None:
        """Makes it the content `name`, whole and durable; an earlier content of that name is replaced."""

    def discard(self) -> None:
        """Deletes it, unless it is published. May be called at any time, and repeatedly."""


class ContentStore:
    """Content by name. Methods without `async` block."""

    def __init__(self, location: str) -> None:
        self._folder = StorageFolder.open(location)

    def location_of(self, name: str) -> str:
        """The path or URI of the content, for other processes."""
        return child_location(self._folder.location, name)

    def begin(self, key: str) -> IncomingContent:
        """New content, which is received under `key`; of two with the same key the later one replaces the earlier."""
        if (local := self._folder.local) is not None:
            return _LocalIncoming(local, key)
        return _RemoteIncoming(self._folder)

    async def blocks(self, name: str) -> AsyncIterator[bytes]:
        """The content in blocks. Raises StorageError if it is not there."""
        file = await to_thread.run_sync(self._open, name)
        try:
            while block := await to_thread.run_sync(self._read, name, file):
                yield block
        finally:
            file.close()

    def delete(self, key: str, *names: str) -> None:
        """Deletes what is received under the key, and the contents; those that are not there are no error."""
        if (local := self._folder.local) is not None:
            with _disk_errors(local), contextlib.suppress(FileNotFoundError, NotADirectoryError):
                (local / INCOMING / key).unlink()
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                path = f"{self._folder.path}/{name}"
                self._folder.with_retries(self.location_of(name), lambda p=path: self._folder.filesystem.delete_file(p))  # type: ignore[misc]

    def check(self) -> None:
        """Raises StorageError if nothing can be written."""
        name = f"check-{os.getpid()}"
        incoming = self.begin(name)
        try:
            incoming.write(b"check")
            incoming.publish(name)
        finally:
            incoming.discard()
        self.delete(name, name)

    def _open(self, name: str) -> BinaryIO:
        path = f"{self._folder.path}/{name}"

        def open_file() -> BinaryIO:
            file: BinaryIO = self._folder.filesystem.open_input_file(path)
            return file

        try:
            return self._folder.with_retries(self.location_of(name), open_file)
        except FileNotFoundError as e:
            raise StorageError(f"{self.location_of(name)} is missing: it was deleted without the API.") from e

    def _read(self, name: str, file: BinaryIO) -> bytes:
        position = file.tell()

        def read_block() -> bytes:
            file.seek(position)
            return bytes(file.read(BLOCK_BYTES))

        return self._folder.with_retries(self.location_of(name), read_block)


class _LocalIncoming:
    """A file in INCOMING of a folder on a mounted disk."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder = folder
        self._path = folder / INCOMING / key
        with _disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.open(self._path, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600)
        self._is_open = True

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        with _disk_errors(self._path):
            while view:
                view = view[os.write(self._file, view) :]

    def head(self, size: int) -> bytes:
        return os.pread(self._file, size, 0)

    def publish(self, name: str) -> None:
        with _disk_errors(self._path):
            os.fsync(self._file)
            self._path.replace(self._folder / name)
            directory = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        self._close()

    def discard(self) -> None:
        if self._is_open:
            self._close()
            self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        self._is_open = False
        os.close(self._file)


class _RemoteIncoming:
    """A file on this machine without a name, so that nothing is left of it if the process dies; then an object.

    An object store's own multipart upload would leave its parts there if the process dies.
    """

    def __init__(self, folder: StorageFolder) -> None:
        self._folder = folder
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by publish or discard

    def write(self, data: bytes) -> None:
        with _disk_errors(Path(tempfile.gettempdir())):
            self._file.write(data)

    def head(self, size: int) -> bytes:
        self._file.seek(0)
        data = self._file.read(size)
        self._file.seek(0, os.SEEK_END)
        return data

    def publish(self, name: str) -> None:
        path = f"{self._folder.path}/{name}"

        def send() -> None:
            self._file.seek(0)
            # The object becomes visible when its stream is closed, complete.
            with self._folder.filesystem.open_output_stream(path, compression=None) as stream:
                while block := self._file.read(BLOCK_BYTES):
                    stream.write(block)

        self._folder.with_retries(child_location(self._folder.location, name), send)
        self._file.close()

    def discard(self) -> None:
        self._file.close()


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Raises errors of the disk as StorageFullError or StorageError."""
    try:
        yield
    except OSError as e:
        raise_if_disk_full(str(path), e)
        raise StorageError(f"{path}: {e.strerror or e}") from e
