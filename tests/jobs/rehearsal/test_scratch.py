"""A rehearsal's environment reaches nothing of a person's own, and is gone afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.rehearsal.scratch import CPU_SHIM, RAY_LOG, rehearsal_environment, scratch_folder


def test_the_folder_is_deleted_unless_it_is_kept() -> None:
    with scratch_folder(keep=False) as folder:
        (folder / "file").write_text("x")
    assert not folder.exists()
    with pytest.raises(KeyboardInterrupt), scratch_folder(keep=False) as folder:
        raise KeyboardInterrupt
    assert not folder.exists()
    with scratch_folder(keep=True) as folder:
        pass
    folder.rmdir()


def test_home_registry_gpus_and_output_are_the_rehearsals_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example:5000")
    monkeypatch.setenv("TUNEYARD_HOME", "/home/own")
    monkeypatch.setenv("PYTHONPATH", "/own/packages")
    before = dict(os.environ)
    with rehearsal_environment(tmp_path, uses_nemo=True):
        print("a notice of Ray")
        assert Path(os.environ["TUNEYARD_HOME"]).is_relative_to(tmp_path)
        assert "MLFLOW_TRACKING_URI" not in os.environ
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
        assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(CPU_SHIM), "/own/packages"]
    assert dict(os.environ) == before
    assert capsys.readouterr().out == ""
    assert (tmp_path / RAY_LOG).read_text() == "a notice of Ray\n"


def test_temporary_files_of_processes_lie_in_the_folder_and_those_of_ray_do_not(tmp_path: Path) -> None:
    """Ray's sockets have long paths in its own folder."""
    code = (
        "import tempfile; from ray._common.utils import get_default_system_temp_dir as ray_folder;"
        "print(tempfile.mkdtemp()); print(ray_folder())"
    )
    with rehearsal_environment(tmp_path, uses_nemo=False):
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    of_process, of_ray = map(Path, found.splitlines())
    assert of_process.is_relative_to(tmp_path)
    assert not of_ray.is_relative_to(tmp_path)


@pytest.mark.parametrize("uses_nemo", [True, False])
def test_only_a_rehearsal_of_nemo_puts_the_shims_hook_into_processes(tmp_path: Path, uses_nemo: bool) -> None:
    code = "import sys; print([type(finder).__name__ for finder in sys.meta_path])"
    with rehearsal_environment(tmp_path, uses_nemo=uses_nemo):
        finders = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert ("_ShimBeforeNemo" in finders) == uses_nemo
