"""References to checkpoints: folders and URIs never open the registry."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tuneyard.checkpoints.references import locate_checkpoint, resolve_checkpoint
from tuneyard.checkpoints.registry import ModelRegistry


def test_a_folder_is_resolved_without_mlflow_and_makes_no_database(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from tuneyard.checkpoints.references import resolve_checkpoint\n"
        "print(resolve_checkpoint(sys.argv[1]), 'mlflow' in sys.modules)"
    )
    home = tmp_path / "home"
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={"TUNEYARD_HOME": str(home), "PYTHONPATH": "platform"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == [str(tmp_path), "False"]
    assert not home.exists()


@pytest.mark.parametrize(
    ("reference", "location"),
    [
        ("s3://bucket/models/1", "s3://bucket/models/1"),
        ("$PLACE/models/1", "/data/models/1"),
        ("${PLACE}/models/../other", "/data/other"),
        ("$PLACE_NOT_SET/1", f"{Path.cwd()}/$PLACE_NOT_SET/1"),
    ],
)
def test_places(reference: str, location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "/data")
    assert locate_checkpoint(reference) == (location, None)


def test_a_name_is_resolved_by_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEYARD_HOME", str(tmp_path / "home"))
    ModelRegistry().register("support", tmp_path / "1", None, {})
    assert locate_checkpoint("support@newest") == (str(tmp_path / "1"), "support/1")
    assert resolve_checkpoint("support/1") == str(tmp_path / "1")


def test_an_existing_path_wins_over_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "support" / "1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert locate_checkpoint("support/1") == (str(tmp_path / "support" / "1"), None)
