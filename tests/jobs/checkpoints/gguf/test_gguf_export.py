"""Exporting GGUF: llama.cpp computes what the checkpoint computes, or no file appears."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import xllamacpp
from safetensors.torch import load_file, save_file

from jobs import export_gguf as command
from jobs.checkpoints.gguf import gguf_export
from jobs.checkpoints.gguf.gguf_export import GgufExport, export_gguf
from jobs.checkpoints.gguf.llama_cpp import label_predictions
from tests.chat_prompts import FROZEN_PROMPTS, llama_cpp_fields
from tests.mxfp4_base import PublishedBase
from tuneyard.checkpoints.gguf.gguf_manifest import GgufManifest, manifest_path
from tuneyard.checkpoints.gguf.gguf_types import GgufType
from tuneyard.checkpoints.gguf.writing import write_gguf
from tuneyard.checkpoints.layout.content_hashes import hash_file
from tuneyard.checkpoints.layout.json_files import read_json, write_json
from tuneyard.checkpoints.manifest_writer import write_manifest
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.core.errors import CheckpointError, ConfigError, StorageFullError
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings

HELDOUT = "jobs/data/brindle_heldout.jsonl"


def export(source: Path, target: Path, kind: GgufType, **options: Any) -> GgufManifest:
    """An export that is measured on 4 rows of the demo's held-out chats."""
    return export_gguf(
        GgufExport(source, target, kind, **({"heldout": HELDOUT, "max_rows": 4, "max_loss_increase": 0.05} | options))
    )


@pytest.mark.parametrize(
    ("kind", "most"), [(GgufType.F32, 1e-4), (GgufType.F16, 1e-4), (GgufType.BF16, 1e-3), (GgufType.Q8_0, 1e-2)]
)
def test_llama_cpp_computes_what_the_checkpoint_computes(
    tiny_oss: Path, tmp_path: Path, kind: GgufType, most: float
) -> None:
    """Attention sinks, a sliding window of 16, YaRN and sparse experts all have an effect in this model."""
    manifest = export(tiny_oss, tmp_path / "m.gguf", kind)
    assert manifest.proof["mean_kl"] < most
    assert manifest.proof["top1_agreement"] > 0.95
    assert manifest.proof["loss_after"] == pytest.approx(manifest.proof["loss_before"], abs=0.01)
    assert manifest.proof["positions"] > 100
    assert manifest.checkpoint_digest == validate_hf_checkpoint(tiny_oss).digest
    assert manifest.file == hash_file(tmp_path / "m.gguf")
    assert GgufManifest.model_validate_json(manifest_path(tmp_path / "m.gguf").read_bytes()) == manifest
    assert {path.name for path in tmp_path.iterdir()} == {"m.gguf", "m.gguf.manifest.json"}


def test_the_published_form_is_exported_as_it_is(published_base: PublishedBase, tmp_path: Path) -> None:
    manifest = export(published_base.adopted, tmp_path / "m.gguf", GgufType.MXFP4, max_loss_increase=0.2)
    assert manifest.proof["mean_kl"] < 0.1
    assert manifest.dtypes.keys() == {"MXFP4", "BF16", "F32"}


def test_only_yarns_rounding_differs(published_base: PublishedBase, tmp_path: Path) -> None:
    """llama.cpp rounds YaRN's limits to whole dimensions, which transformers does for `truncate: true`."""
    folder = Path(shutil.copytree(published_base.adopted, tmp_path / "rounded"))
    config = read_json(folder / "config.json")
    for field in ("rope_parameters", "rope_scaling"):
        config[field]["truncate"] = True
    write_json(folder / "config.json", config)
    write_manifest(folder, kind="base", name="rounded", version="1")
    proof = export(folder, tmp_path / "m.gguf", GgufType.F32).proof
    assert proof["mean_kl"] < 1e-5
    assert proof["top1_agreement"] == 1


def test_a_loss_that_rises_too_much_leaves_nothing(tiny_oss: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"As q8_0, the loss on 4 rows of .* allows -1\. Nothing was kept"):
        export(tiny_oss, tmp_path / "m.gguf", GgufType.Q8_0, max_loss_increase=-1.0)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_the_checkpoint_is_refused(
    tiny_oss: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the writer took the up projections for the gates."""
    names = {"ffn_gate_exps": 1, "ffn_up_exps": 0}
    monkeypatch.setattr("tuneyard.checkpoints.gguf.model_tensors.FIRST_OF_PAIR", names)
    with pytest.raises(CheckpointError, match=r"another model from the file .* KL divergence is .*allowed 0\.1"):
        export(tiny_oss, tmp_path / "m.gguf", GgufType.F32, max_loss_increase=10.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["m.gguf", "m.gguf.manifest.json"])
def test_a_file_that_appears_meanwhile_is_not_overwritten(
    tiny_oss: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prove(*_: object) -> dict[str, float]:
        (tmp_path / name).write_text("another's")
        return {"loss_before": 1.0, "loss_after": 1.0}

    monkeypatch.setattr(gguf_export, "_prove", prove)
    with pytest.raises(CheckpointError, match=rf"{name} already exists"):
        export(tiny_oss, tmp_path / "m.gguf", GgufType.F32)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "another's")]


def test_a_file_system_without_links(tiny_oss: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a USB stick with exFAT, which is how a file of this size travels."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    manifest = export(tiny_oss, tmp_path / "m.gguf", GgufType.F32)
    assert manifest.file == hash_file(tmp_path / "m.gguf")
    assert {path.name for path in tmp_path.iterdir()} == {"m.gguf", "m.gguf.manifest.json"}

    def prove(*_: object) -> dict[str, float]:
        (tmp_path / "n.gguf").write_text("another's")
        return {"loss_before": 1.0, "loss_after": 1.0}

    monkeypatch.setattr(gguf_export, "_prove", prove)
    with pytest.raises(CheckpointError, match=r"n\.gguf already exists"):
        export(tiny_oss, tmp_path / "n.gguf", GgufType.F32)
    assert (tmp_path / "n.gguf").read_text() == "another's"
    assert not (tmp_path / "n.gguf.manifest.json").exists()


def test_a_folder_is_no_file_to_write(tiny_oss: Path, tmp_path: Path) -> None:
    """Nobody is told to delete it."""
    with pytest.raises(CheckpointError, match=r"is a folder\. Name a file in it with --output") as refused:
        export(tiny_oss, tmp_path, GgufType.F32)
    assert "Delete" not in str(refused.value)


def test_a_full_disk_is_named_with_the_file_and_before_the_chats_are_read(
    tiny_oss: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuneyard.checkpoints.gguf.writing.shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(StorageFullError, match=rf"^{tmp_path}/m\.gguf: {tmp_path} has 0\.0 GB free"):
        export(tiny_oss, tmp_path / "m.gguf", GgufType.F32, heldout="/nowhere.jsonl")


def test_logits_that_are_not_numbers_are_refused(tiny_oss_copy: Path, tmp_path: Path) -> None:
    weights = tiny_oss_copy / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"].fill_(3e38)  # overflows; NaN in a checkpoint is refused before
    save_file(tensors, weights, {"format": "pt"})
    write_manifest(tiny_oss_copy, kind="base", name="overflowing", version="1")
    with pytest.raises(CheckpointError, match=r"not numbers \(NaN\).*Nothing was kept"):
        export(tiny_oss_copy, tmp_path / "m.gguf", GgufType.F32)
    assert {path.name for path in tmp_path.iterdir()} == {tiny_oss_copy.name}


def test_without_heldout_chats_nothing_is_written(tiny_oss: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trained without held-out chats.*--heldout FILE"):
        export(tiny_oss, tmp_path / "m.gguf", GgufType.F32, heldout=None)
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_it_wrote(
    tiny_oss: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heldout = Path(HELDOUT).absolute()
    monkeypatch.chdir(tmp_path)
    options = ["--type", "q8_0", "--heldout", str(heldout), "--rows", "2"]
    assert command.main([str(tiny_oss), *options]) == 0
    said = capsys.readouterr().out
    assert "tokens of 2 rows); KL " in said
    assert "wrote tiny-oss-random-0-q8_0.gguf" in said
    assert (tmp_path / "tiny-oss-random-0-q8_0.gguf").exists()
    assert command.main([str(tiny_oss), *options]) == 1
    assert "already exists. Delete it, or choose another file with --output" in capsys.readouterr().err


@pytest.fixture(scope="module")
def llama_server(tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of llama.cpp's own HTTP API, serving tiny-oss-random."""
    path = tmp_path_factory.mktemp("gguf") / "m.gguf"
    write_gguf(tiny_oss, path, GgufType.F32)
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = 2048
    params.verbosity = -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    yield server.listening_address
    del server


@pytest.mark.parametrize("number", range(len(FROZEN_PROMPTS)))
def test_llama_cpp_renders_the_codecs_prompts(tiny_oss: Path, llama_server: str, number: int) -> None:
    messages, tools = FROZEN_PROMPTS[number]
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    reply = httpx.post(f"{llama_server}/apply-template", json=llama_cpp_fields(messages, tools))
    prompt = reply.json()["prompt"]
    body = {"content": prompt, "parse_special": True, "add_special": False}
    ids = httpx.post(f"{llama_server}/tokenize", json=body).json()["tokens"]
    assert ids == codec.render(messages, tools)


def test_a_file_that_llama_cpp_cannot_load_is_named(tiny_oss: Path, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF and no more")
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    with pytest.raises(CheckpointError, match=r"m\.gguf: llama\.cpp .* cannot load the file"):
        label_predictions(tmp_path / "m.gguf", [{"input_ids": [1, 2], "labels": [-100, 2]}], codec, "llama.cpp")
