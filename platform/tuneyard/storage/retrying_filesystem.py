"""An object store as pyarrow.fs has it, but patient: for code that is not ours, and fails for good at a refusal.

Ray Train writes its own state between two steps; a store that is away for a second would end the run.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from tuneyard.storage.folder import StorageFolder

SMALL_BYTES = 64 * 2**20


def patient_filesystem(folder: StorageFolder) -> pafs.FileSystem:
    """A filesystem whose every call is tried again for half a minute. It writes files from memory: small ones only."""
    return pafs.PyFileSystem(_PatientHandler(folder))


class _PatientHandler(pafs.FileSystemHandler):
    """Every method of pyarrow's interface; what an object store cannot do, or must not be asked for, it refuses."""

    def __init__(self, folder: StorageFolder) -> None:
        self._folder = folder

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _PatientHandler) and self._folder.filesystem == other._folder.filesystem

    def __reduce__(self) -> tuple[Any, ...]:
        return _PatientHandler, (self._folder,)

    def get_type_name(self) -> str:
        return f"patient+{self._folder.filesystem.type_name}"

    def normalize_path(self, path: str) -> str:
        return str(self._folder.filesystem.normalize_path(path))

    def get_file_info(self, paths: list[str]) -> Any:
        return self._try(lambda fs: fs.get_file_info(paths))

    def get_file_info_selector(self, selector: pafs.FileSelector) -> Any:
        return self._try(lambda fs: fs.get_file_info(selector))

    def create_dir(self, path: str, recursive: bool) -> None:
        self._try(lambda fs: fs.create_dir(path, recursive=recursive))

    def delete_dir(self, path: str) -> None:
        self._try(lambda fs: fs.delete_dir(path))

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        self._try(lambda fs: fs.delete_dir_contents(path, missing_dir_ok=missing_dir_ok))

    def delete_root_dir_contents(self) -> None:
        raise io.UnsupportedOperation("a whole store is never emptied")

    def delete_file(self, path: str) -> None:
        self._try(lambda fs: fs.delete_file(path))

    def move(self, src: str, dest: str) -> None:
        self._try(lambda fs: fs.move(src, dest))

    def copy_file(self, src: str, dest: str) -> None:
        self._try(lambda fs: fs.copy_file(src, dest))

    def open_input_stream(self, path: str) -> Any:
        return self._try(lambda fs: fs.open_input_stream(path, compression=None))

    def open_input_file(self, path: str) -> Any:
        return self._try(lambda fs: fs.open_input_file(path))

    def open_output_stream(self, path: str, _metadata: Any) -> Any:
        def write(content: bytes) -> None:
            def once(fs: pafs.FileSystem) -> None:
                with fs.open_output_stream(path, compression=None) as file:
                    file.write(content)

            self._try(once)

        return pa.PythonFile(_WrittenAtTheEnd(write), mode="w")

    def open_append_stream(self, _path: str, _metadata: Any) -> Any:
        raise io.UnsupportedOperation("object stores do not append")

    def _try(self, action: Callable[[pafs.FileSystem], Any]) -> Any:
        return self._folder.patiently(self._folder.location, lambda: action(self._folder.filesystem))


class _WrittenAtTheEnd(io.BytesIO):
    """A file that reaches the store when it is closed, as often as that must be tried."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        super().__init__()
        self._write = write

    def write(self, content: Any, /) -> int:
        if self.tell() + len(content) > SMALL_BYTES:
            raise OSError(f"more than {SMALL_BYTES >> 20} MiB: tuneyard.checkpoints.transfer is for such files")
        return super().write(content)

    def close(self) -> None:
        if not self.closed:
            self._write(self.getvalue())
        super().close()
