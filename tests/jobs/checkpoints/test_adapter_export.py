"""The adapter form of an export: PEFT's files, proved by stock PEFT, valid by their manifest, and never a model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.checkpoints.proved_export import ExportForm, export_and_prove, exported_name
from jobs.runs.checkpoint_export import find_checkpoint
from jobs.runs.preflight import prepare_run
from jobs.training.label_logits import label_logits
from jobs.training.logit_proof import compare_logits
from jobs.training.model_loading import load_dequantised
from jobs.workers.backend_factory import create_backend
from serve_apps.deployment.checked_model import check_model
from serve_apps.engines.engine_factory import create_engine
from tests.jobs.training.backend_contract import RecordingContext, backend_config, stored, token_rows
from tests.mxfp4_base import publish_mxfp4
from tuneyard.checkpoints.layout.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from tuneyard.checkpoints.layout.json_files import read_json, write_json
from tuneyard.checkpoints.manifest import BaseReference, CheckpointManifest, read_manifest
from tuneyard.checkpoints.manifest_writer import write_manifest
from tuneyard.checkpoints.registry import ModelRegistry
from tuneyard.checkpoints.tensor_table import weights_digest
from tuneyard.checkpoints.validation import validate_adapter, validate_hf_checkpoint
from tuneyard.cli.data.inputs import load_codec
from tuneyard.cli.main import main
from tuneyard.configs.engine import EngineConfig
from tuneyard.configs.serve import ModelAppConfig
from tuneyard.core.errors import CheckpointError, ConfigError
from tuneyard.training_data.token_table import TOKEN_COLUMNS

METHODS: dict[str, dict[str, Any]] = {
    "attention": {"lora": {"rank": 8, "alpha": 24, "dropout": 0.1}},
    "experts of the last layer": {"lora": {"rank": 4, "experts": True, "last_layers": 1}},
}


@pytest.fixture(scope="module")
def published(tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base as OpenAI publishes it: experts in MXFP4."""
    target = tmp_path_factory.mktemp("published") / "mxfp4"
    publish_mxfp4(tiny_oss, target)
    return target


@pytest.fixture(scope="module", params=list(METHODS))
def trained(request: pytest.FixtureRequest, published: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run's config and its last checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    config = backend_config(published, **METHODS[request.param])
    context = RecordingContext(folder / "run")
    create_backend(config).train(config, stored(token_rows(published), folder / "tokens"), context)
    return config, context.checkpoints[-1]


def probe_rows(base: Path) -> list[dict[str, list[int]]]:
    rows: list[dict[str, list[int]]] = token_rows(base).rows.slice(0, 3).select(list(TOKEN_COLUMNS)).to_pylist()
    return rows


def export(trained: Any, target: Path, form: ExportForm) -> CheckpointManifest:
    config, checkpoint = trained
    base = config.model.folder
    lineage = {"base": BaseReference(name="mxfp4", digest=weights_digest(base))}
    return export_and_prove(create_backend(config), config, checkpoint, str(target), probe_rows(base), lineage, form)


@pytest.fixture(scope="module")
def adapter(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported adapter. Do not change it."""
    target = tmp_path_factory.mktemp("adapter") / "1"
    export(trained, target, "adapter")
    return target


def adapted_logits(base: Path, adapter: Path) -> list[np.ndarray]:
    model = peft.PeftModel.from_pretrained(load_dequantised(base, torch.float32, on_gpu=False), adapter)
    return label_logits(model.eval(), probe_rows(base))


def test_stock_peft_gives_what_the_merged_export_gives(trained: Any, adapter: Path, tmp_path: Path) -> None:
    config, _ = trained
    base = config.model.folder
    export(trained, tmp_path / "merged", "merged")
    merged = label_logits(load_dequantised(tmp_path / "merged", torch.float32, on_gpu=False).eval(), probe_rows(base))
    plain = label_logits(load_dequantised(base, torch.float32, on_gpu=False).eval(), probe_rows(base))
    adapted = adapted_logits(base, adapter)
    proof = compare_logits(adapted, merged)
    assert proof["mean_kl"] < 0.001
    assert proof["top1_agreement"] > 0.95
    assert compare_logits(adapted, plain)["mean_kl"] > 0.05


def test_the_files_are_pefts_and_the_manifest_names_the_base(trained: Any, adapter: Path) -> None:
    config, checkpoint = trained
    base, lora = config.model.folder, config.training.lora
    assert sorted(path.name for path in adapter.iterdir()) == [ADAPTER_CONFIG, ADAPTER_WEIGHTS, "manifest.json"]
    assert (adapter / ADAPTER_WEIGHTS).read_bytes() == (checkpoint / ADAPTER_WEIGHTS).read_bytes()
    written = peft.PeftConfig.from_pretrained(adapter)
    assert (written.r, written.lora_alpha, written.lora_dropout) == (lora.rank, lora.alpha, lora.dropout)
    assert written.base_model_name_or_path == str(base)
    manifest = validate_adapter(adapter, base)
    assert (manifest.kind, manifest.name) == ("adapter", exported_name(config, "adapter")) == ("adapter", "m-adapter")
    assert manifest.base is not None
    assert manifest.base.digest == weights_digest(base)
    assert manifest.proof["mean_kl"] < 1e-6


def test_it_can_be_exported_without_its_run(trained: Any, adapter: Path) -> None:
    """Its manifest holds the run's config: `jobs.export FOLDER` merges it."""
    config, _ = trained
    found = find_checkpoint(adapter, None, [])
    assert (found.config, found.folder, found.adapter) == (config, adapter, read_manifest(adapter))


@pytest.mark.parametrize(("config", "problem"), [({}, r"run: Field required"), ({"later": 1}, r"later: unknown field")])
def test_without_a_config_of_this_version_its_run_must_be_given(
    config: dict[str, Any], problem: str, trained: Any, adapter: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(adapter, tmp_path / "1"))
    write_manifest(folder, kind="adapter", name="m-adapter", version="1", config=config)
    with pytest.raises(ConfigError, match=rf"manifest\.json: \d problems?\n(.*\n)*.*{problem}") as e:
        find_checkpoint(folder, None, [])
    assert str(e.value).endswith("Give the run's config with --config.")
    given = tmp_path / "config.json"
    given.write_text(trained[0].model_dump_json())
    assert find_checkpoint(folder, given, []).config == trained[0]


def test_it_is_refused_as_a_model(adapter: Path, tmp_path: Path) -> None:
    """Each door that loads a model says what the folder is and how it becomes a model."""
    version = ModelRegistry().register("tuned-adapter", adapter, None, {"kind": "adapter"})
    doors: list[Callable[[], object]] = [
        lambda: check_model(ModelAppConfig(model_id="m", checkpoint=f"tuned-adapter/{version.version}")),
        lambda: create_engine(EngineConfig(), adapter),
        lambda: validate_hf_checkpoint(adapter),
        lambda: load_codec(str(adapter)),
        lambda: prepare_run(backend_config(adapter)),
    ]
    for door in doors:
        with pytest.raises(CheckpointError, match=r"is an adapter, not a model.*Merge it .*: python -m jobs\.export /"):
            door()
    foreign = Path(shutil.copytree(adapter, tmp_path / "foreign"))
    (foreign / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"is an adapter, not a model.*merge_and_unload of peft"):
        create_engine(EngineConfig(), foreign)


def test_models_commands_know_it(
    adapter: Path, published: Path, tiny_oss: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "check", str(adapter)]) == 0
    said = capsys.readouterr().out
    assert f"they fit the weights of {published}" in said
    assert "an adapter, which no engine serves on its own; merge it: python -m jobs.export" in said
    assert main(["models", "check", str(adapter), "--base", str(tiny_oss)]) == 1
    assert "holds other weights" in capsys.readouterr().err
    assert main(["models", "copy", str(adapter), str(tmp_path / "copy")]) == 0
    assert validate_adapter(tmp_path / "copy") == read_manifest(adapter)
    (tmp_path / "copy" / "manifest.json").unlink()
    assert main(["models", "adopt", str(tmp_path / "copy")]) == 1
    assert "is an adapter, not a model" in capsys.readouterr().err
    ModelRegistry().register("listed-adapter", adapter, None, {"kind": "adapter"})
    assert main(["models", "list"]) == 0
    assert f"{adapter}  (adapter)" in capsys.readouterr().out


def edit_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / ADAPTER_WEIGHTS)
    change(tensors)
    save_file(tensors, folder / ADAPTER_WEIGHTS, {"format": "pt"})


def edit_config(folder: Path, **fields: Any) -> None:
    write_json(folder / ADAPTER_CONFIG, read_json(folder / ADAPTER_CONFIG) | fields)


A_MATRIX = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "half a pair": (lambda f: edit_tensors(f, lambda t: t.pop(A_MATRIX)), r"lora_A and lora_B must both be there"),
    "another rank": (lambda f: edit_config(f, r=3), r"the ranks are \d+ and \d+ where adapter_config.json says 3"),
    "another size": (
        lambda f: edit_tensors(f, lambda t: t.update({A_MATRIX: t[A_MATRIX][:, 1:].contiguous()})),
        r"the adapter changes a weight of \(256, 63\), but the base has \(256, 64\)",
    ),
    "no change": (
        lambda f: edit_tensors(f, lambda t: t.update({n: v * 0 for n, v in t.items() if "lora_B" in n})),
        r"every lora_B holds only zeros: the training was a silent no-op",
    ),
    "not finite": (lambda f: edit_tensors(f, lambda t: t[A_MATRIX].fill_(float("nan"))), r"q_proj.* holds NaN"),
    "other tensors": (
        lambda f: edit_tensors(f, lambda t: t.update({"lm_head.weight": torch.ones(4, 4)})),
        r"lm_head.weight \(4, 4\) is not a LoRA matrix",
    ),
    "code": (lambda f: edit_config(f, auto_mapping={"base_model_class": "x"}), r"auto_mapping is .*may import code"),
    "Megatron": (lambda f: edit_config(f, megatron_config={"a": 1}), r"megatron_config is .*may import code"),
    "another kind": (lambda f: edit_config(f, peft_type="LOHA"), r"peft_type is 'LOHA'; only 'LORA' is supported"),
    "no rank": (lambda f: edit_config(f, r=None), r"r, the rank, is None"),
    "no scale": (lambda f: edit_config(f, lora_alpha="1"), r"lora_alpha is '1'"),
    "a pickle": (lambda f: (f / "adapter_model.bin").write_bytes(b"\x80\x02"), r"that can hold a pickle"),
    "no weights": (lambda f: (f / ADAPTER_WEIGHTS).unlink(), r"adapter_model.safetensors is missing"),
}


@pytest.mark.parametrize("name", list(DAMAGE))
def test_a_damaged_adapter_is_not_valid(name: str, adapter: Path, published: Path, tmp_path: Path) -> None:
    """Also with a manifest that matches its files."""
    change, message = DAMAGE[name]
    folder = Path(shutil.copytree(adapter, tmp_path / "1"))
    base = read_manifest(folder).base
    change(folder)
    write_manifest(folder, kind="adapter", name="m", version="1", base=base)
    with pytest.raises(CheckpointError, match=message):
        validate_adapter(folder, published)


def test_an_adapter_that_is_not_the_trained_model_is_not_published(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of an earlier checkpoint in place of the trained ones."""
    config, checkpoint = trained
    backend = create_backend(config)
    write = type(backend).export_adapter

    def write_half(*arguments: Any) -> Any:
        logits = write(*arguments)
        edit_tensors(arguments[3], lambda t: t.update({n: v / 2 for n, v in t.items() if "lora_B" in n}))
        return logits

    monkeypatch.setattr(type(backend), "export_adapter", write_half)
    with pytest.raises(CheckpointError, match=r"The reloaded export is not the trained model"):
        export(trained, tmp_path / "models" / "1", "adapter")
    assert not list((tmp_path / "models").iterdir())
    assert json.loads((checkpoint / ADAPTER_CONFIG).read_text())["r"] == config.training.lora.rank
