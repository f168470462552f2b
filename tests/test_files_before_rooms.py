"""Files that Tuneyard wrote before its modules moved into rooms still load, with equal token ids and fingerprints."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tuneyard.checkpoints.manifest import CheckpointManifest, read_manifest
from tuneyard.checkpoints.tensor_table import weights_digest
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.config_loading import load_config
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.parity import check_parity, render_with
from tuneyard.harmony.parity_rows import parse_parity_rows
from tuneyard.harmony.settings import CodecSettings

ARCHIVE = Path(__file__).with_name("before_rooms") / "tiny_support.tar.xz"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked archive: `tiny-oss-random`, `a run` and `home`."""
    folder = tmp_path_factory.mktemp("before_rooms")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def checkpoint(old: Path) -> Path:
    return old / "home" / "models" / "tiny-support" / "1"


@pytest.fixture(scope="module")
def manifest(checkpoint: Path) -> CheckpointManifest:
    return read_manifest(checkpoint)


@pytest.fixture(scope="module")
def config(old: Path) -> FinetuneConfig:
    """The run's config, with the paths of the unpacked files."""
    places = (f"model.base={old / 'tiny-oss-random'}", f"run.storage={old / 'home'}")
    return load_config(FinetuneConfig, old / "a run" / "finetune.yaml", places)


def test_the_checkpoints_are_valid(old: Path, checkpoint: Path, manifest: CheckpointManifest) -> None:
    base = validate_hf_checkpoint(old / "tiny-oss-random")
    assert validate_hf_checkpoint(checkpoint, old / "tiny-oss-random") == manifest
    assert manifest.base is not None
    assert base.digest == manifest.base.digest


def test_the_codec_renders_the_frozen_prompts_to_the_same_ids(checkpoint: Path, manifest: CheckpointManifest) -> None:
    assert manifest.codec is not None
    codec = HarmonyCodec.from_checkpoint(checkpoint, CodecSettings.model_validate(manifest.codec.settings))
    assert codec.fingerprint == manifest.codec.fingerprint
    rows = parse_parity_rows(manifest.parity)
    assert len(rows) == 16
    assert check_parity(rows, render_with(codec), codec, "here") == sum(len(row.token_ids) for row in rows)


def test_the_runs_config_is_what_the_code_of_today_writes(old: Path, config: FinetuneConfig) -> None:
    """The same YAML gives the same values: no field of then is missing; fields may have been added since."""
    written = json.loads((old / "home" / "runs" / "tiny" / "config.json").read_text(encoding="utf-8"))
    moved = json.loads(json.dumps(written).replace("/tmp/before/out", str(old)))
    # Since then null, which stands for the same.
    assert config.precision == moved["training"].pop("precision")
    assert fields_of(config.model_dump(mode="json"), moved) == moved
    assert fields_of(FinetuneConfig.model_validate(written).model_dump(mode="json"), written) == written


def fields_of(value: Any, older: Any) -> Any:
    """The value with only those fields that the older value has too."""
    if not isinstance(value, dict) or not isinstance(older, dict):
        return value
    return {name: fields_of(value[name], older[name]) for name in older if name in value}


def test_the_run_is_resumed_and_its_token_stores_are_found(
    old: Path, config: FinetuneConfig, manifest: CheckpointManifest
) -> None:
    from jobs.runs.preflight import prepare_run
    from jobs.runs.run_record import RunFolder

    tokens = old / "home" / "tokens"
    written = {path: path.stat().st_mtime_ns for path in tokens.rglob("*")}
    prepared = prepare_run(config)
    assert {path: path.stat().st_mtime_ns for path in tokens.rglob("*")} == written
    assert prepared.heldout_tokens is not None
    assert {prepared.train_tokens.path, prepared.heldout_tokens.path} == set(tokens.iterdir())
    assert (prepared.train_tokens.rows, prepared.heldout_tokens.rows) == (30, 6)

    assert manifest.dataset is not None
    assert prepared.dataset_fingerprint == manifest.dataset.fingerprint
    assert prepared.base_digest == weights_digest(old / "tiny-oss-random")
    fingerprint = json.loads((old / "home" / "runs" / "tiny" / "run.json").read_text(encoding="utf-8"))[
        "inputs_fingerprint"
    ]
    assert prepared.inputs_fingerprint(config) == fingerprint
    # RunFolder.open refuses a run with another fingerprint.
    _, record = RunFolder.open(config, fingerprint)
    assert (record.version, record.mlflow_run_id) == (1, manifest.run_id)


def test_the_ray_train_checkpoint_exports_to_the_published_weights(
    old: Path, config: FinetuneConfig, checkpoint: Path, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    from jobs.workers.backend_factory import create_backend

    (trained,) = (old / "home" / "runs" / "tiny" / "ray_train").glob("checkpoint_2*")
    create_backend(config).export_hf(config, trained, tmp_path, [])
    # On another CPU a merged weight may round to its neighbour in bf16.
    torch.testing.assert_close(
        load_file(tmp_path / "model.safetensors"), load_file(checkpoint / "model.safetensors"), rtol=1e-2, atol=1e-6
    )
    exported, published = (json.loads((folder / "config.json").read_bytes()) for folder in (tmp_path, checkpoint))
    assert exported | {"transformers_version": published["transformers_version"]} == published
