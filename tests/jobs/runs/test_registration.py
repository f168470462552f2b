"""The registration of a run's checkpoint, also by a run that was killed before it wrote its version down."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.runs.registration import find_finished_version, find_published, register_checkpoint
from jobs.runs.run_record import RunRecord
from tests.jobs.runs.test_run_record import config
from tuneyard.checkpoints.layout.content_hashes import FileEntry
from tuneyard.checkpoints.manifest import (
    MANIFEST_NAME,
    BaseReference,
    CheckpointManifest,
    CodecReference,
    DatasetReference,
)
from tuneyard.checkpoints.registry import NEWEST, ModelRegistry


def write_manifest(folder: Path, run_id: str, step: float | None) -> CheckpointManifest:
    """A published version without weights."""
    manifest = CheckpointManifest(
        kind="finetuned",
        name="m",
        version=folder.name,
        created_at="2026-01-01T00:00:00Z",
        architecture="GptOssForCausalLM",
        files={"config.json": FileEntry(size_bytes=2, sha256="0" * 64)},
        tensors={},
        base=BaseReference(name="b", digest="d"),
        dataset=DatasetReference(fingerprint="f", rows=1),
        codec=CodecReference(settings={}, fingerprint="c"),
        metrics={"step": step} if step is not None else {},
        run_id=run_id,
    )
    folder.mkdir(parents=True)
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(), encoding="utf-8")
    return manifest


def test_what_a_killed_run_has_published_is_found(tmp_path: Path) -> None:
    models = tmp_path / "models" / "m"
    assert find_published(config(tmp_path), "run", 12.0) is None
    write_manifest(models / "1", "another run", 12.0)
    write_manifest(models / "2", "run", 8.0)  # exported while the run trained
    write_manifest(models / "3", "run", None)
    (models / ".4.partial-host-1").mkdir()
    (models / "4").mkdir()
    (models / "4" / MANIFEST_NAME).write_text("{}", encoding="utf-8")
    assert find_published(config(tmp_path), "run", 12.0) is None
    assert find_published(config(tmp_path), "run", None) is None
    manifest = write_manifest(models / "5", "run", 12.0)
    assert find_published(config(tmp_path), "run", 12.0) == (manifest, str(models / "5"))


def test_a_run_is_registered_once_though_its_record_was_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    registry = ModelRegistry(tmp_path / "home")
    run = registry.start_run("m", "r", {}, None)
    folder = tmp_path / "models" / "m" / "1"
    manifest = write_manifest(folder, run, 12.0)
    versions = []
    for _ in range(2):
        record = RunRecord(inputs_fingerprint="i", mlflow_run_id=run)
        versions.append(register_checkpoint(registry, config(tmp_path), manifest, str(folder), record).version)
        found = find_finished_version(record, registry, config(tmp_path))
        assert found is not None
        assert found.version == 1
    assert versions == [1, 1]
    assert [version.version for version in registry.versions("m")] == [1]


def test_an_earlier_checkpoint_moves_no_alias_and_says_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    registry = ModelRegistry(tmp_path / "home")
    run = registry.start_run("m", "r", {}, None)
    for version, step, alias in (("1", 1_234_567.0, NEWEST), ("2", 1_234_560.0, None)):
        folder = tmp_path / "models" / "m" / version
        manifest = write_manifest(folder, run, step)
        for _ in range(2):  # a run that was killed repeats all
            record = RunRecord(inputs_fingerprint="i", mlflow_run_id=run)
            register_checkpoint(registry, config(tmp_path), manifest, str(folder), record, alias)
    assert registry.aliases("m") == {NEWEST: 1}
    assert [version.tags["metric.step"] for version in registry.versions("m")] == ["1234567", "1234560"]
