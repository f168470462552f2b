"""`tuneyard models`: each kind of wrong checkpoint is refused with its own message; downloads are taken in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.mxfp4_base import PublishedBase, publish_mxfp4
from tuneyard.checkpoints.manifest import read_manifest
from tuneyard.checkpoints.manifest_writer import write_manifest
from tuneyard.checkpoints.registry import ModelRegistry
from tuneyard.checkpoints.tensor_table import weights_digest
from tuneyard.cli.main import main

WEIGHTS = "model.safetensors"
GATE_UP = "model.layers.1.mlp.experts.gate_up_proj"
DOWN = "model.layers.0.mlp.experts.down_proj"


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / WEIGHTS, {"format": "pt"})


def change_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def seal(folder: Path, base: Path | None = None) -> None:
    """A manifest that matches whatever the files are now, as of a run from `base`."""
    config = {"model": {"base": str(base)}} if base else {}
    write_manifest(folder, kind="finetuned" if base else "base", name="m", version="1", config=config)


def rearrange(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda tensors: tensors.update({name: change(tensors[name])})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            rearrange(GATE_UP, lambda w: torch.cat((w[..., ::2], w[..., 1::2]), -1)),
            f"{GATE_UP}: gate and up lie side by side where GPT-OSS interleaves them",
        ),
        (rearrange(GATE_UP, lambda w: w.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)), "gate and up are exchanged"),
        (rearrange(DOWN, lambda w: w.transpose(1, 2)), f"{DOWN}: it is transposed"),
        (rearrange(DOWN, lambda w: w.roll(7, 1)), "its first expert is not like that of the base"),
    ],
    ids=["interleave", "exchanged", "transposed", "damaged"],
)
@pytest.mark.parametrize("engine", ["transformers", "tensorrt_llm"])
def test_wrongly_arranged_experts_are_refused(
    change: Any, message: str, engine: str, tiny_oss: Path, tiny_oss_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shapes, names, dtypes and hashes are all right."""
    change_weights(tiny_oss_copy, change)
    seal(tiny_oss_copy, tiny_oss)
    assert main(["models", "check", str(tiny_oss_copy), "--engine", engine]) == 1
    assert message in capsys.readouterr().err


def test_mxfp4_is_compared_with_a_bf16_base_and_the_reverse(
    tiny_oss: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_mxfp4(tiny_oss, tmp_path / "q")
    for one, other in ((tiny_oss, tmp_path / "q"), (tmp_path / "q", tiny_oss)):
        assert main(["models", "check", str(one), "--base", str(other), "--engine", "tensorrt_llm"]) == 0
        said = capsys.readouterr().out
        assert f"experts are arranged as those of {other}" in said
        assert "fit for the engine tensorrt_llm" in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c.update(layer_types=["full_attention", "sliding_attention"]),
            r"layer_types[0] is 'full_attention'",
        ),
        (lambda c: c.update(num_experts=8), "a name of OpenAI's original form"),
        (lambda c: (c["rope_scaling"].pop("beta_fast"), c["rope_parameters"].pop("beta_fast")), "needs rope_type yarn"),
    ],
)
def test_what_only_tensorrt_llm_minds(
    change: Any, message: str, tiny_oss_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_config(tiny_oss_copy, change)
    seal(tiny_oss_copy)
    assert main(["models", "check", str(tiny_oss_copy)]) == 0
    assert main(["models", "check", str(tiny_oss_copy), "--engine", "tensorrt_llm"]) == 1
    assert message in capsys.readouterr().err


def test_weights_in_fp32_are_refused(tiny_oss_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_weights(tiny_oss_copy, lambda tensors: tensors.update({n: t.float() for n, t in tensors.items()}))
    change_config(tiny_oss_copy, lambda config: config.update(dtype="float32"))
    seal(tiny_oss_copy)
    assert main(["models", "check", str(tiny_oss_copy), "--engine", "tensorrt_llm"]) == 1
    assert "the weights are F32, but TensorRT-LLM serves GPT-OSS in BF16" in capsys.readouterr().err


def test_the_published_form_is_fit(
    published_base: PublishedBase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files of openai/gpt-oss-20b and -120b, blocks apart from scales, and the original form in a folder below."""
    folder = Path(shutil.copytree(published_base.downloaded, tmp_path / "gpt-oss"))
    plain = weights_digest(folder)
    (folder / "original").mkdir()
    save_file({"embedding.weight": torch.zeros(2, 2)}, folder / "original" / WEIGHTS)
    assert main(["models", "adopt", str(folder)]) == 0
    assert read_manifest(folder).digest == plain == weights_digest(folder)
    base = str(published_base.unquantised)
    assert main(["models", "check", str(folder), "--engine", "tensorrt_llm", "--base", base]) == 0
    assert "fit for the engine tensorrt_llm" in capsys.readouterr().out


def test_what_llama_cpp_can_load(
    published_base: PublishedBase, tiny_oss_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights in which it is served, with the size of each file; MXFP4 only where the experts are. A reason if none."""
    assert main(["models", "check", str(published_base.adopted), "--engine", "llama_cpp"]) == 0
    said = capsys.readouterr().out
    assert "llama.cpp runs it with weights: mxfp4 (0.00 GiB), q8_0 (" in said
    assert "fit for the engine llama_cpp" in said
    assert main(["models", "check", str(tiny_oss_copy), "--engine", "llama_cpp"]) == 0
    assert "llama.cpp runs it with weights: q8_0" in capsys.readouterr().out
    change_config(tiny_oss_copy, lambda config: config.update(swiglu_limit=6.0))
    seal(tiny_oss_copy)
    assert main(["models", "check", str(tiny_oss_copy), "--engine", "llama_cpp"]) == 1
    assert "swiglu_limit is 6.0, and llama.cpp computes with 7.0" in capsys.readouterr().err


def test_quantised_attention_is_refused(tiny_oss: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_mxfp4(tiny_oss, tmp_path / "q")
    change_config(tmp_path / "q", lambda c: c["quantization_config"].update(modules_to_not_convert=["lm_head"]))
    seal(tmp_path / "q")
    assert main(["models", "check", str(tmp_path / "q"), "--engine", "tensorrt_llm"]) == 1
    assert "modules_to_not_convert lacks model.layers.*.self_attn" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: change_weights(f, lambda t: t.update({"model.layers.0.mlp.experts.gate_up": t.pop(GATE_UP)})),
            f"missing {GATE_UP}; unexpected model.layers.0.mlp.experts.gate_up",
        ),
        (
            lambda f: change_config(f, lambda c: c.update(quantization_config={"quant_method": "mxfp4"})),
            "stale quantization_config (mxfp4)",
        ),
        (lambda f: _flip_a_bit(f / WEIGHTS), "was changed or damaged after it was written"),
    ],
    ids=["misnamed", "stale", "flipped"],
)
def test_the_other_three_are_refused_by_every_check(
    change: Any, message: str, tiny_oss_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `interleave` above: the four checkpoints that must each be refused with a message of its own."""
    change(tiny_oss_copy)
    if "damaged" not in message:
        seal(tiny_oss_copy)
    assert main(["models", "check", str(tiny_oss_copy), "--engine", "tensorrt_llm"]) == 1
    assert message in capsys.readouterr().err


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-7] ^= 4
    path.write_bytes(content)


def test_a_tuned_model_without_its_base_says_what_was_not_compared(
    tiny_oss_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seal(tiny_oss_copy, tmp_path / "gone")
    assert main(["models", "check", str(tiny_oss_copy)]) == 0
    assert "NOT compared: the experts' arrangement" in capsys.readouterr().out


def test_a_download_is_adopted(tiny_oss_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tiny_oss_copy / "manifest.json").unlink()
    change_config(tiny_oss_copy, lambda config: config.pop("rope_parameters"))
    assert main(["models", "check", str(tiny_oss_copy)]) == 1
    assert "with `tuneyard models adopt FOLDER`" in capsys.readouterr().err
    assert main(["models", "adopt", str(tiny_oss_copy), "--name", "mine"]) == 0
    assert "mine can be served and finetuned" in capsys.readouterr().out
    assert read_manifest(tiny_oss_copy).kind == "base"
    assert main(["models", "check", str(tiny_oss_copy), "--engine", "tensorrt_llm"]) == 0
    capsys.readouterr()
    assert main(["models", "adopt", str(tiny_oss_copy)]) == 1
    assert "has a manifest already" in capsys.readouterr().err


def test_what_download_tools_keep_for_themselves_is_no_part_of_the_model(tiny_oss_copy: Path, tmp_path: Path) -> None:
    """`hf download --local-dir` and git write into these folders again at any later time."""
    (tiny_oss_copy / "manifest.json").unlink()
    for name in (".cache/huggingface/download/config.json.metadata", ".cache/huggingface/.gitignore", ".git/HEAD"):
        (tiny_oss_copy / name).parent.mkdir(parents=True, exist_ok=True)
        (tiny_oss_copy / name).write_text("one")
    assert main(["models", "adopt", str(tiny_oss_copy)]) == 0
    assert not [name for name in read_manifest(tiny_oss_copy).files if name.startswith(".")]
    (tiny_oss_copy / ".cache/huggingface/download/config.json.metadata").write_text("two")
    (tiny_oss_copy / ".cache/huggingface/download/more.json").write_text("{}")
    (tiny_oss_copy / ".git/HEAD").unlink()
    assert main(["models", "check", str(tiny_oss_copy)]) == 0
    assert main(["models", "copy", str(tiny_oss_copy), str(tmp_path / "copy")]) == 0
    assert not list((tmp_path / "copy").glob(".*"))
    assert main(["models", "check", str(tmp_path / "copy")]) == 0


def test_what_is_no_model_is_not_adopted(
    tiny_oss_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tiny_oss_copy / "manifest.json").unlink()
    change_weights(tiny_oss_copy, lambda tensors: tensors.pop(DOWN))
    assert main(["models", "adopt", str(tiny_oss_copy)]) == 1
    assert f"missing {DOWN}" in capsys.readouterr().err
    assert not (tiny_oss_copy / "manifest.json").exists()
    untouched = (tiny_oss_copy / "tokenizer_config.json").read_bytes()
    change_config(tiny_oss_copy, lambda config: config.update(architectures=["LlamaForCausalLM"]))
    assert main(["models", "adopt", str(tiny_oss_copy)]) == 1
    assert "['LlamaForCausalLM']; Tuneyard takes" in capsys.readouterr().err
    assert (tiny_oss_copy / "tokenizer_config.json").read_bytes() == untouched
    cache = tmp_path / "cache"
    shutil.copytree(tiny_oss_copy, cache)
    (tiny_oss_copy / "config.json").unlink()
    (tiny_oss_copy / "config.json").symlink_to(cache / "config.json")
    assert main(["models", "adopt", str(tiny_oss_copy)]) == 1
    assert "config.json is a symbolic link out of the folder" in capsys.readouterr().err


def test_the_registry_is_listed(tiny_oss: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ModelRegistry().register("listed-model", tiny_oss, None, {})
    version = ModelRegistry().register("listed-model", tiny_oss, None, {}).version
    assert main(["models", "list"]) == 0
    said = capsys.readouterr().out
    assert f"listed-model/{version} @newest  {tiny_oss}" in said
    assert f"listed-model/{version - 1}  {tiny_oss}" in said


@pytest.mark.usefixtures("store", "cache")
def test_models_copy_to_a_store_and_back(tiny_oss: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "copy", str(tiny_oss), "s3://bucket/copied/1"]) == 0
    assert main(["models", "copy", "s3://bucket/copied/1", str(tmp_path / "back")]) == 0
    assert read_manifest(tmp_path / "back") == read_manifest(tiny_oss)
    assert main(["models", "check", "s3://bucket/copied/1"]) == 0
    assert main(["models", "copy", str(tiny_oss), str(tmp_path / "back")]) == 1
    assert "never overwritten" in capsys.readouterr().err
