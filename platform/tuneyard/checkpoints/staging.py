"""Writes a checkpoint into a hidden folder beside its target and renames it when it is complete."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from tuneyard.checkpoints.manifest import MANIFEST_NAME, read_manifest
from tuneyard.core.errors import CheckpointError, StorageFullError


@contextlib.contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """Yields an empty hidden folder beside `target`. Removes it at the end, with all that was not published.

    Folders that dead processes of this machine left for the same target are removed first. Raises CheckpointError if
    the target exists or its parent cannot be written, and StorageFullError if the disk becomes full inside the context
    or takes no file that large.
    """
    target = Path(target).absolute()
    _refuse_existing(target)
    try:
        staging = _make_staging(target)
    except OSError as e:
        if _is_storage_full(e):
            raise _storage_full(target) from e
        raise CheckpointError(
            f"{target.parent}: cannot create a folder there ({e.strerror}). Choose another folder, or allow writing."
        ) from e
    try:
        yield staging
    except (OSError, SafetensorError) as e:
        if getattr(e, "errno", None) == errno.EFBIG:
            raise _file_too_large(target) from e
        if not _is_storage_full(e):
            raise
        raise _storage_full(target) from e
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def publish_checkpoint(staging: Path, target: Path) -> None:
    """Renames a finished staging folder to its target. Every file gets the permissions of the manifest.

    Raises CheckpointError if the folder has no manifest or the target exists: a published checkpoint never changes.
    """
    read_manifest(staging)
    _refuse_existing(target)
    # safetensors writes files that only their owner may read, but a server often runs as another user.
    mode = (staging / MANIFEST_NAME).stat().st_mode
    for path in staging.rglob("*"):
        if path.is_file():
            path.chmod(mode)
    try:
        staging.rename(target)
    except OSError as e:
        if e.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise _exists(target) from e
        raise


def next_version_folder(models: Path) -> Path:
    """The folder of a model's next version: `<models>/<n>`, one more than the highest version there."""
    versions = [int(p.name) for p in models.iterdir() if p.name.isdigit()] if models.is_dir() else []
    return models / str(max(versions, default=0) + 1)


def _make_staging(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    # Storage may be shared, and a process id identifies a process only together with its host.
    prefix = f".{target.name}.partial-{socket.gethostname()}-"
    _remove_leftovers(target.parent, prefix)
    staging = target.parent / f"{prefix}{os.getpid()}"
    staging.mkdir()
    return staging


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise _exists(target)


def _exists(target: Path) -> CheckpointError:
    return CheckpointError(f"{target} already exists, and checkpoints are never overwritten. Choose another version.")


def _storage_full(target: Path) -> StorageFullError:
    folder = next(parent for parent in target.parents if parent.is_dir())
    free_mib = shutil.disk_usage(folder).free // 2**20
    return StorageFullError(
        f"{target.parent} has no space for the checkpoint {target.name} ({free_mib} MiB free). All incomplete files "
        "were removed. Delete old checkpoints or runs, or choose another folder, and start again."
    )


def _file_too_large(target: Path) -> StorageFullError:
    return StorageFullError(
        f"{target.parent} takes no file as large as those of {target.name}. All incomplete files were removed. FAT32, "
        "the file system of many USB sticks, ends at 4 GiB a file, and `ulimit -f` sets a limit for a shell. Choose "
        "another folder, and start again."
    )


def _is_storage_full(error: Exception) -> bool:
    """Whether the disk or the quota is full. The safetensors library reports it only in its message."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return any(word in str(error) for word in ("StorageFull", "No space left", "QuotaExceeded"))


def _remove_leftovers(parent: Path, prefix: str) -> None:
    """Removes staging folders of this machine whose process has ended, or whose process id is now ours."""
    for path in parent.iterdir():
        pid = path.name.removeprefix(prefix)
        if path.name.startswith(prefix) and pid.isdigit() and (int(pid) == os.getpid() or not _is_alive(int(pid))):
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
