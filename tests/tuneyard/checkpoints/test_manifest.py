"""A forged manifest reads and writes no file elsewhere, and each command refuses it in words."""

from __future__ import annotations

import gc
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.export_gguf import default_name
from serve_apps.deployment.checked_model import check_model
from tuneyard.checkpoints.layout import json_files
from tuneyard.checkpoints.layout.json_files import MAX_BYTES, read_json, read_small_file, write_json
from tuneyard.checkpoints.manifest import read_manifest
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.cli.main import main
from tuneyard.configs.serve import ModelAppConfig
from tuneyard.core.errors import CheckpointError

SECRET = "somebody else's file"


def edited(**fields: Any) -> Callable[[dict[str, Any]], str]:
    return lambda manifest: json.dumps(manifest | fields)


def with_file(name: str) -> Callable[[dict[str, Any]], str]:
    entry = {"sha256": hashlib.sha256(SECRET.encode()).hexdigest(), "size_bytes": len(SECRET)}
    return lambda manifest: json.dumps(manifest | {"files": manifest["files"] | {name: entry}})


FORGED: dict[str, tuple[Callable[[dict[str, Any]], str], str]] = {
    "file beside the folder": (with_file("../secret.txt"), "'../secret.txt', which lies outside of the folder"),
    "file on the way out": (with_file("a/../../secret.txt"), "which lies outside of the folder"),
    "absolute file": (with_file("/etc/passwd"), "'/etc/passwd', which lies outside of the folder"),
    "no name": (with_file(""), "'', which lies outside of the folder"),
    "name with a zero": (with_file("a\0b"), "which cannot be a file's name"),
    "name for the terminal": (with_file("a\x1b[2J"), "which cannot be a file's name"),
    "name without end": (with_file("a" * 5000), "which cannot be a file's name"),
    "model's name for the terminal": (edited(name="m\x1b]0;x\x07"), "characters that control a terminal"),
    "nested without end": (lambda _: '{"a":' * 200_000 + "1" + "}" * 200_000, "cannot be read as JSON"),
}


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    """Where recursion ends, hypothesis' callback of the garbage collector fails too, in whatever test comes next."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("kind", list(FORGED))
def test_a_forged_manifest_is_refused(kind: str, tiny_oss_copy: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text(SECRET)
    make, refusal = FORGED[kind]
    manifest = json.loads((tiny_oss_copy / "manifest.json").read_text(encoding="utf-8"))
    (tiny_oss_copy / "manifest.json").write_text(make(manifest), encoding="utf-8")
    for command in (
        read_manifest,
        validate_hf_checkpoint,
        lambda folder: check_model(ModelAppConfig(model_id="m", checkpoint=str(folder))),
    ):
        with pytest.raises(CheckpointError) as caught:
            command(tiny_oss_copy)
        assert refusal in str(caught.value)


def test_a_copy_writes_nothing_outside_of_its_target(
    tiny_oss_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret.txt").write_text(SECRET)
    manifest = json.loads((tiny_oss_copy / "manifest.json").read_text(encoding="utf-8"))
    (tiny_oss_copy / "manifest.json").write_text(with_file("../secret.txt")(manifest), encoding="utf-8")
    assert main(["models", "copy", str(tiny_oss_copy), str(tmp_path / "models" / "1")]) == 1
    assert "which lies outside of the folder" in capsys.readouterr().err
    assert not (tmp_path / "models" / "secret.txt").exists()


@pytest.mark.parametrize(
    ("settings", "refusal"),
    [({"x": 1}, "codec.settings is not valid: x:"), ({"conversation_date": ["x"]}, "codec.settings is not valid")],
)
def test_unknown_codec_settings_are_refused(settings: dict[str, Any], refusal: str, tiny_oss_copy: Path) -> None:
    manifest = json.loads((tiny_oss_copy / "manifest.json").read_text(encoding="utf-8"))
    forged = edited(codec={"settings": settings, "fingerprint": "f"})(manifest)
    (tiny_oss_copy / "manifest.json").write_text(forged, encoding="utf-8")
    for command in (
        validate_hf_checkpoint,
        lambda folder: check_model(ModelAppConfig(model_id="m", checkpoint=str(folder))),
    ):
        with pytest.raises(CheckpointError, match=refusal):
            command(tiny_oss_copy)


@pytest.mark.parametrize("base", [5, "a\0b", "a" * 5000, ["x"]])
def test_a_base_that_is_no_path_is_not_looked_for(base: object, tiny_oss_copy: Path) -> None:
    manifest = json.loads((tiny_oss_copy / "manifest.json").read_text(encoding="utf-8"))
    forged = edited(config={"model": {"base": base}})(manifest)
    (tiny_oss_copy / "manifest.json").write_text(forged, encoding="utf-8")
    assert main(["models", "check", str(tiny_oss_copy)]) == 0


@pytest.mark.parametrize("name", ["../../etc/x", "/etc/x", "openai/gpt-oss-20b", "..", ".hidden"])
def test_the_name_of_a_gguf_file_stays_in_this_folder(name: str) -> None:
    file = default_name(name, "1", "q8_0")
    assert Path(file).name == file
    assert not file.startswith(".")
    assert file.endswith("1-q8_0.gguf")


def test_json_that_has_no_end_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(2**40)  # sparse: takes no space
    for name, reason in (("pipe.json", "a device, pipe or socket"), ("huge.json", f"at most {MAX_BYTES:,} are read")):
        with pytest.raises(CheckpointError, match=reason):
            read_json(tmp_path / name)
    monkeypatch.setattr(json_files, "MAX_BYTES", 4)
    (tmp_path / "small.json").write_bytes(b"{  }")
    assert read_small_file(tmp_path / "small.json") == b"{  }"


def test_writing_replaces_a_link_and_leaves_the_other_file(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    os.link(tmp_path / "other.json", tmp_path / "hard.json")
    (tmp_path / "soft.json").symlink_to("other.json")
    for name in ("hard.json", "soft.json"):
        write_json(tmp_path / name, {"a": 1})
        assert read_json(tmp_path / name) == {"a": 1}
    assert read_json(tmp_path / "other.json") == {}
