"""A NeMo folder that is checked by all ranks together: each file is hashed once, and all ranks learn what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch.distributed as dist

from jobs.nemo.setup.shared_check import check_written_folder_together
from tests.forked_processes import call_in_processes
from tests.jobs.training.sharding.worker_group import in_group
from tuneyard.checkpoints.safety import written_folders
from tuneyard.checkpoints.safety.written_folders import check_written_folder, record_written_folder
from tuneyard.core.errors import CheckpointError
from tuneyard.core.ports import free_port

RANKS, FILES = 2, 5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"__{number}_0.distcp").write_bytes(bytes([number]) * 100)
    record_written_folder(folder)
    return folder


def check_in_group(rank: int, port: int, folder: Path) -> None:
    """Writes what the check says to a file of the rank, and the files that the rank has hashed."""
    in_group(rank, RANKS, port)
    hashed: list[str] = []
    digest = written_folders._digest

    def counted(path: Path, count: object) -> str:
        hashed.append(path.name)
        return digest(path, count)  # type: ignore[arg-type]

    written_folders._digest = counted
    try:
        check_written_folder_together(folder)
        finding = "ok"
    except CheckpointError as e:
        finding = str(e)
    folder.with_name(f"rank-{rank}").write_text("\n".join([finding, *hashed]))
    dist.destroy_process_group()


def findings(folder: Path) -> list[list[str]]:
    """Of each rank: what the check says, and the hashed files."""
    call_in_processes(check_in_group, RANKS, free_port(), folder)
    return [folder.with_name(f"rank-{rank}").read_text().splitlines() for rank in range(RANKS)]


def test_each_file_is_hashed_by_one_rank_and_every_rank_refuses_a_changed_one(folder: Path) -> None:
    ranks = findings(folder)
    assert [finding for finding, *_ in ranks] == ["ok"] * RANKS
    assert sorted(name for _, *hashed in ranks for name in hashed) == sorted(path.name for path in folder.iterdir())
    assert all(len(hashed) <= FILES // RANKS + 1 for _, *hashed in ranks)
    changed = folder / "__3_0.distcp"
    changed.write_bytes(b"\x80" * 100)
    assert all(f"{changed.name} changed afterwards" in finding for finding, *_ in findings(folder))


def test_without_a_group_it_is_the_check_of_one_process(folder: Path) -> None:
    check_written_folder_together(folder)
    (folder / "__0_0.distcp").unlink()
    with pytest.raises(CheckpointError) as alone:
        check_written_folder(folder)
    with pytest.raises(CheckpointError) as together:
        check_written_folder_together(folder)
    assert str(together.value) == str(alone.value)
