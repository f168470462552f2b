"""A pyarrow filesystem that retries requests to an object store, for code of others that fails at the first error.

Ray Train writes its own state during training. Without retries, a store that is unreachable for a second ends the run.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from tuneyard.storage.folder import StorageFolder

MAX_FILE_BYTES = 64 * 2**20
"""Largest file that can be written, because its content stays in memory until it is closed."""


def retrying_filesystem(folder: StorageFolder) -> pafs.FileSystem:
    """The folder's filesystem with retries (see retries.with_retries) around every request. It can be pickled.

    A file is written when it is closed, and can have at most MAX_FILE_BYTES.
    """
    return pafs.PyFileSystem(_RetryingHandler(folder))


class _RetryingHandler(pafs.FileSystemHandler):
    """pyarrow's interface for filesystems in Python. Appending, and deleting a whole store, are not supported."""

    def __init__(self, folder: StorageFolder) -> None:
        self._folder = folder

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _RetryingHandler) and self._folder.filesystem == other._folder.filesystem

    def __reduce__(self) -> tuple[Any, ...]:
        return _RetryingHandler, (self._folder,)

    def get_type_name(self) -> str:
        return f"retrying+{self._folder.filesystem.type_name}"

    def normalize_path(self, path: str) -> str:
        return str(self._folder.filesystem.normalize_path(path))

    def get_file_info(self, paths: list[str]) -> Any:
        return self._request(lambda fs: fs.get_file_info(paths))

    def get_file_info_selector(self, selector: pafs.FileSelector) -> Any:
        return self._request(lambda fs: fs.get_file_info(selector))

    def create_dir(self, path: str, recursive: bool) -> None:
        self._request(lambda fs: fs.create_dir(path, recursive=recursive))

    def delete_dir(self, path: str) -> None:
        self._request(lambda fs: fs.delete_dir(path))

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        self._request(lambda fs: fs.delete_dir_contents(path, missing_dir_ok=missing_dir_ok))

    def delete_root_dir_contents(self) -> None:
        raise io.UnsupportedOperation("Tuneyard does not delete the content of a whole object store")

    def delete_file(self, path: str) -> None:
        self._request(lambda fs: fs.delete_file(path))

    def move(self, src: str, dest: str) -> None:
        self._request(lambda fs: fs.move(src, dest))

    def copy_file(self, src: str, dest: str) -> None:
        self._request(lambda fs: fs.copy_file(src, dest))

    def open_input_stream(self, path: str) -> Any:
        return self._request(lambda fs: fs.open_input_stream(path, compression=None))

    def open_input_file(self, path: str) -> Any:
        return self._request(lambda fs: fs.open_input_file(path))

    def open_output_stream(self, path: str, _metadata: Any) -> Any:
        def write_file(content: bytes) -> None:
            def write_once(fs: pafs.FileSystem) -> None:
                with fs.open_output_stream(path, compression=None) as file:
                    file.write(content)

            self._request(write_once)

        return pa.PythonFile(_BufferedFile(write_file), mode="w")

    def open_append_stream(self, _path: str, _metadata: Any) -> Any:
        raise io.UnsupportedOperation("object stores cannot append to a file")

    def _request(self, send: Callable[[pafs.FileSystem], Any]) -> Any:
        return self._folder.with_retries(self._folder.location, lambda: send(self._folder.filesystem))


class _BufferedFile(io.BytesIO):
    """A file in memory whose whole content is passed to `write_file` when it is closed, so that it can be retried."""

    def __init__(self, write_file: Callable[[bytes], None]) -> None:
        super().__init__()
        self._write_file = write_file

    def write(self, content: Any, /) -> int:
        if self.tell() + len(content) > MAX_FILE_BYTES:
            raise OSError(
                f"the file is larger than {MAX_FILE_BYTES >> 20} MiB. Write it with tuneyard.checkpoints.transfer"
            )
        return super().write(content)

    def close(self) -> None:
        if not self.closed:
            self._write_file(self.getvalue())
        super().close()
