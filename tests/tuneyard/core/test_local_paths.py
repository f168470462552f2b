"""Options that all command lines share."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from jobs import build_base_model, evaluate, export_gguf, export_openai, import_checkpoint, quantize
from tuneyard.core.command import local_path


@pytest.mark.parametrize("text", ["s3://bucket/x", "hf://x", "file:///x", ""])
def test_a_local_path_is_no_uri_and_not_empty(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be a path on a disk of this machine, found"):
        local_path(text)


@pytest.mark.parametrize("text", ["/models/x", "x", "a folder/x: y", "."])
def test_a_local_path_is_the_text(text: str) -> None:
    assert local_path(text) == Path(text)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (build_base_model, ["tiny-oss-random", "--output"]),
        (evaluate, ["--tasks", "arc_easy", "m@newest", "--json"]),
        (export_gguf, ["m@newest", "--type", "f16", "--output"]),
        (export_openai, ["m@newest"]),
        (import_checkpoint, ["hf://base"]),
        (quantize, ["m@newest", "--format", "mxfp4", "--output"]),
    ],
)
def test_commands_that_write_to_a_disk_refuse_an_object_store(
    command: object,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Otherwise they write into the folder `s3:` of the working directory."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        command.main([*arguments, "s3://bucket/x"])  # type: ignore[attr-defined]
    assert "found 's3://bucket/x'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
