"""A NeMo folder is read only if it was recorded and nothing in it has changed since."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuneyard.checkpoints.safety.written_folders import check_written_folder, record_written_folder
from tuneyard.cli.main import main
from tuneyard.core.errors import CheckpointError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "step-0000003"
    (folder / "weights").mkdir(parents=True)
    (folder / "context").mkdir()
    (folder / "weights" / "common.pt").write_bytes(b"\x80\x02plain")
    (folder / "weights" / "__0_0.distcp").write_bytes(bytes(range(256)) * 64)
    (folder / "context" / "io.json").write_text("{}")
    return folder


def test_what_was_written_is_read_and_a_foreign_folder_is_not(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no record of having been written by this platform.*models trust"):
        check_written_folder(folder)
    record_written_folder(folder)
    check_written_folder(folder)
    foreign = Path(shutil.copytree(folder, tmp_path / "download" / "step-0000003"))
    with pytest.raises(CheckpointError, match=r"no record of having been written by this platform"):
        check_written_folder(foreign)
    with pytest.raises(CheckpointError, match=r"no such NeMo checkpoint"):
        check_written_folder(tmp_path / "none")


CHANGES: dict[str, Callable[[Path], object]] = {
    "weights/common.pt": lambda folder: (folder / "weights" / "common.pt").write_bytes(b"\x80\x02other"),
    "context/io.json": lambda folder: (folder / "context" / "io.json").unlink(),
    "weights/evil.pt": lambda folder: (folder / "weights" / "evil.pt").write_bytes(b"\x80\x02"),
    "context/evil": lambda folder: (folder / "context" / "evil").symlink_to("/etc"),
    "weights/__0_0.distcp": lambda folder: (folder / "weights" / "__0_0.distcp").write_bytes(bytes(range(256)) * 65),
}


@pytest.mark.parametrize("name", list(CHANGES))
def test_each_change_is_named(name: str, folder: Path) -> None:
    record_written_folder(folder)
    CHANGES[name](folder)
    with pytest.raises(CheckpointError, match=rf"{name} changed afterwards"):
        check_written_folder(folder)


@given(place=st.integers(min_value=0, max_value=65 * 2**20 - 1))
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_byte_of_a_large_file_can_change(place: int, folder: Path) -> None:
    """A .distcp file holds pickled objects between its tensors."""
    large = folder / "weights" / "__0_1.distcp"
    with large.open("wb") as file:
        file.truncate(65 * 2**20)
    record_written_folder(folder)
    check_written_folder(folder)
    with large.open("r+b") as file:
        file.seek(place)
        file.write(b"\x80")
    with pytest.raises(CheckpointError, match=r"weights/__0_1\.distcp changed afterwards"):
        check_written_folder(folder)


@given(files=st.integers(1, 7), parts=st.integers(1, 9), data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parts_together_check_every_file_and_each_file_is_hashed_in_one(
    files: int, parts: int, data: st.DataObject, folder: Path
) -> None:
    names = [f"weights/__{number}_0.distcp" for number in range(files)]
    for name in names:
        (folder / name).write_bytes(name.encode())
    record_written_folder(folder)
    for part in range(parts):
        check_written_folder(folder, part, parts)
    changed = data.draw(st.sampled_from(names))
    (folder / changed).write_bytes(b"\x80")
    refused = 0
    for part in range(parts):
        try:
            check_written_folder(folder, part, parts)
        except CheckpointError as e:
            assert f"{changed} changed afterwards" in str(e)
            refused += 1
    assert refused == 1
    # A file that is not recorded is refused in every part.
    (folder / changed).write_bytes(changed.encode())
    extra = folder / "weights" / "evil.pt"
    extra.write_bytes(b"\x80")
    for part in range(parts):
        with pytest.raises(CheckpointError, match=r"weights/evil\.pt changed afterwards"):
            check_written_folder(folder, part, parts)
    extra.unlink()


def test_a_person_can_vouch_for_a_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "trust", str(tmp_path)]) == 1
    assert "it has no folder weights/" in capsys.readouterr().err
    assert main(["models", "trust", str(folder)]) == 0
    assert ".step-0000003.digests.json" in capsys.readouterr().out
    check_written_folder(folder)
