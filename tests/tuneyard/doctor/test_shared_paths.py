"""shared_paths on a worker's node: it must see the driver's files and be able to write."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.core.errors import ClusterError
from tuneyard.doctor.shared_paths import check_paths_here, check_writable_here, path_fingerprints


def paths(folder: Path) -> dict[str, str]:
    return {"run.storage": str(folder / "tokens"), "model.base": str(folder / "config.json")}


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / "part-0").write_bytes(b"tokens")
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_the_same_files_pass_and_uris_are_not_looked_at(shared: Path) -> None:
    expected = path_fingerprints(paths(shared) | {"other": "s3://bucket/base"})
    assert set(expected) == {"run.storage", "model.base"}
    check_paths_here(expected)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("remove", "model.base: {0}/config.json is missing, unlike on the driver's node"),
        ("replace", "model.base: {0}/config.json is different from the driver's node"),
        ("part", "run.storage: {0}/tokens is different from the driver's node"),
    ],
)
def test_a_node_that_sees_something_else_is_named_before_training(shared: Path, change: str, line: str) -> None:
    expected = path_fingerprints(paths(shared))
    match change:
        case "remove":
            (shared / "config.json").unlink()
        case "replace":
            (shared / "config.json").write_text("{ }")
        case "part":
            (shared / "tokens" / "part-1").touch()
    with pytest.raises(ClusterError) as raised:
        check_paths_here(expected)
    assert line.format(shared) in str(raised.value)
    assert "Use storage that all nodes mount at the same path" in str(raised.value)


@pytest.mark.skipif(os.getuid() == 0, reason="root can write everywhere")
@given(locked=st.integers(0, 2))
def test_a_folder_that_another_user_made_is_found(tmp_path_factory: pytest.TempPathFactory, locked: int) -> None:
    storage = tmp_path_factory.mktemp("storage")
    folders = [storage, storage / "models", storage / "models" / "support"]
    folders[-1].mkdir(parents=True)
    folders[locked].chmod(0o555)
    try:
        with pytest.raises(ClusterError, match=f"{folders[locked]} cannot be written on "):
            check_writable_here(str(storage), "models", "support")
    finally:
        folders[locked].chmod(0o755)


def test_a_writable_folder_passes_and_what_is_missing_is_made_later(tmp_path: Path) -> None:
    check_writable_here(str(tmp_path), "models", "support")
    check_writable_here("s3://bucket/tuneyard", "models", "support")
    assert list(tmp_path.iterdir()) == []


def test_a_storage_that_takes_no_file_is_refused() -> None:
    """/proc takes no new files, from root neither."""
    with pytest.raises(ClusterError, match=r"/proc cannot be written on .* by user"):
        check_writable_here("/proc")


def test_a_file_system_that_is_mounted_read_only_is_named(tmp_path: Path) -> None:
    """In a mount namespace of its own, as root of a user namespace."""
    check = (
        "from tuneyard.core.errors import ClusterError\n"
        "from tuneyard.doctor.shared_paths import check_writable_here\n"
        f"try: check_writable_here({str(tmp_path)!r})\n"
        "except ClusterError as e: print(e)"
    )
    mount = f'mount -t tmpfs -o ro tmpfs "{tmp_path}" || exit 77; exec "{sys.executable}" -c "$0"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, check]
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare here")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 77 or done.stderr.startswith("unshare:"):
        pytest.skip(f"no mount is allowed here: {done.stderr}")
    assert f"{tmp_path} cannot be written on " in done.stdout
    assert "its file system is mounted read-only. Mount it with the option rw" in done.stdout
