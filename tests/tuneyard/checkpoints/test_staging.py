"""A checkpoint appears complete or not at all, and nothing incomplete is left behind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from tuneyard.checkpoints.staging import publish_checkpoint, staging_folder
from tuneyard.core.errors import CheckpointError, StorageFullError

WEIGHTS = "model.safetensors"


def test_publishing_renames_and_never_overwrites(tiny_oss_copy: Path, tmp_path: Path) -> None:
    target = tmp_path / "models" / "1"
    with staging_folder(target) as staging:
        assert staging.parent == target.parent
        assert staging.name.startswith(".1.partial-")
        with pytest.raises(CheckpointError, match="is not a finished checkpoint"):
            publish_checkpoint(staging, target)
        for path in tiny_oss_copy.iterdir():
            path.rename(staging / path.name)
        publish_checkpoint(staging, target)
    assert [path.name for path in target.parent.iterdir()] == ["1"]
    assert (target / WEIGHTS).stat().st_mode == (target / "manifest.json").stat().st_mode
    with pytest.raises(CheckpointError, match="never overwritten"), staging_folder(target):
        pass


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("IoError(Os { kind: StorageFull })")]
)
def test_a_full_disk(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(StorageFullError, match="MiB free"), staging_folder(tmp_path / "m"):
        raise error
    assert not list(tmp_path.iterdir())


def test_a_file_system_that_takes_no_large_file(tmp_path: Path) -> None:
    """FAT32 ends at 4 GiB; here by a limit of the process, which gives the same error."""
    script = (
        "import resource, sys; from pathlib import Path; from tuneyard.checkpoints.staging import staging_folder\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "with staging_folder(Path(sys.argv[1]) / 'm.gguf') as staging: (staging / 'm.gguf').write_bytes(bytes(20_000))"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert f"StorageFullError: {tmp_path} takes no file as large as those of m.gguf." in ended.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot create a folder there"), staging_folder(tmp_path / "file" / "m"):
        pass


def test_other_errors_are_raised_unchanged_and_leave_nothing(tmp_path: Path) -> None:
    def fail_halfway() -> None:
        with staging_folder(tmp_path / "m") as staging:
            (staging / "half").touch()
            raise PermissionError

    with pytest.raises(PermissionError):
        fail_halfway()
    assert not list(tmp_path.iterdir())


def test_leftovers_of_dead_processes_are_removed(tmp_path: Path) -> None:
    with staging_folder(tmp_path / "m") as staging:
        prefix = staging.name.removesuffix(str(os.getpid()))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    leftover, alive, elsewhere = (
        tmp_path / name for name in (f"{prefix}{dead.pid}", f"{prefix}1", ".m.partial-otherhost-9")
    )
    for path in (leftover, alive, elsewhere):
        path.mkdir()
    with staging_folder(tmp_path / "m"):
        assert not leftover.exists()
        assert alive.exists()
        assert elsewhere.exists()
