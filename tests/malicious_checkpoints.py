"""Checkpoints that would run code or read other files when they are loaded, by kind, each with its refusal."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CANARY = "TUNEYARD_CANARY"
"""Environment variable with the path of a file that every payload creates when it runs."""


@dataclass(frozen=True, slots=True)
class Attack:
    """A change of a good checkpoint folder, and words of the refusal."""

    apply: Callable[[Path], object]
    refusal: str


class _Payload:
    """Creates the canary when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"import os; open(os.environ[{CANARY!r}], 'w').close()",)


def edit_json(path: Path, **fields: Any) -> None:
    """Sets fields of a JSON file, which is created if it is missing."""
    data = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(data | fields), encoding="utf-8")


def _code(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(f"import os\nopen(os.environ[{CANARY!r}], 'w').close()\n", encoding="utf-8")


def _config(**fields: Any) -> Callable[[Path], object]:
    return lambda folder: edit_json(folder / "config.json", **fields)


def _auto_map(folder: Path) -> None:
    edit_json(folder / "config.json", auto_map={"AutoModelForCausalLM": "evil.Model"})
    _code(folder, "evil.py")


def _tokenizer_code(folder: Path) -> None:
    edit_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokenizer", None]})


def _pickle(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(pickle.dumps(_Payload()))


def _archive_without_suffix(folder: Path) -> None:
    with zipfile.ZipFile(folder / "weights", "w") as archive:
        archive.writestr("weights/data.pkl", pickle.dumps(_Payload()))


def _pickles_by_index(folder: Path) -> None:
    edit_json(folder / "pytorch_model.bin.index.json", weight_map={"lm_head.weight": "pytorch_model.bin"})


def _shard_elsewhere(folder: Path) -> None:
    edit_json(folder / "model.safetensors.index.json", weight_map={"lm_head.weight": "../other/model.safetensors"})


def _link_out(name: str) -> Callable[[Path], object]:
    def link(folder: Path) -> None:
        outside = folder.parent / f"outside-{folder.name}-{name}"
        (folder / name).rename(outside)
        (folder / name).symlink_to(outside)

    return link


def _folder_link(folder: Path) -> None:
    (folder / "extra").symlink_to("/", target_is_directory=True)


def _inner_link(folder: Path) -> None:
    edit_json(folder / "notes.json", base_model_name_or_path="/another/model", peft_type="LORA")
    (folder / "adapter_config.json").symlink_to("notes.json")


def _link_loop(folder: Path) -> None:
    (folder / "added_tokens.json").symlink_to("added_tokens.json")


KERNEL = "kernels-community/flash-attn3"
ATTACKS = {
    "auto_map": Attack(_auto_map, "would import and run the Python file"),
    "attention kernel": Attack(_config(_attn_implementation_internal="evil/kernel"), "CVE-2026-4372"),
    "experts kernel": Attack(_config(_experts_implementation_internal=KERNEL), "would download the kernel"),
    "attn_implementation": Attack(_config(attn_implementation=KERNEL), "would download the kernel"),
    "use_kernels": Attack(_config(use_kernels=True), "would download kernels from the Hub"),
    "kernel in an allowed field": Attack(_config(hidden_act="evil/kernel"), "a path or a name on the Hub"),
    "unknown field": Attack(_config(new_loader_option="x"), "is not a field of GPT-OSS"),
    "other quantisation": Attack(
        _config(quantization_config={"quant_method": "mxfp4", "modules": "evil"}), "quantization_config: modules"
    ),
    "rope callable": Attack(
        lambda folder: edit_json(folder / "config.json", rope_scaling={"rope_type": "yarn", "init_fn": "evil"}),
        "rope_scaling: init_fn",
    ),
    "generation code": Attack(
        lambda folder: edit_json(folder / "generation_config.json", custom_generate="evil/decoding"),
        "would run the generation code",
    ),
    "generation folder": Attack(lambda folder: _code(folder, "custom_generate/generate.py"), "is code (.py)"),
    "tokenizer code": Attack(_tokenizer_code, "would import and run the Python file"),
    "vocabulary elsewhere": Attack(
        lambda folder: edit_json(folder / "tokenizer_config.json", tokenizer_file="/etc/tokenizer.json"),
        "in place of this model's vocabulary",
    ),
    "adapter": Attack(
        lambda folder: edit_json(folder / "adapter_config.json", base_model_name_or_path="evil/model"),
        "in place of these weights",
    ),
    "pytorch_model.bin": Attack(_pickle("pytorch_model.bin"), "runs code when it is read"),
    "training_args.bin": Attack(_pickle("training_args.bin"), "runs code when it is read"),
    "model.pt": Attack(_pickle("model.PT"), "runs code when it is read"),
    "model.ckpt": Attack(_pickle("model.ckpt"), "runs code when it is read"),
    "state.pkl": Attack(_pickle("state.pkl"), "runs code when it is read"),
    "model.nemo": Attack(_pickle("model.nemo"), "runs code when it is read"),
    "pickle as text": Attack(_pickle("vocab.txt"), "a pickle under another name"),
    "archive of pickles": Attack(_archive_without_suffix, "a pickle under another name"),
    "pickles by index": Attack(_pickles_by_index, "read the weights from the pickles"),
    "shard elsewhere": Attack(_shard_elsewhere, "names the weights file '../other/model.safetensors'"),
    "compiled code": Attack(lambda folder: (folder / "kernel.so").write_bytes(b"\x7fELF"), "is code (.so)"),
    "linked weights": Attack(_link_out("model.safetensors"), "is a symbolic link out of the folder"),
    "linked config": Attack(_link_out("config.json"), "is a symbolic link out of the folder"),
    "linked folder": Attack(_folder_link, "is a symbolic link out of the folder"),
    "link with a redirecting name": Attack(_inner_link, "adapter_config.json: transformers would load the model"),
    "link loop": Attack(_link_loop, "is a symbolic link out of the folder"),
    "pipe": Attack(lambda folder: os.mkfifo(folder / "model-2.safetensors"), "is a device, pipe or socket"),
}
"""By kind. Each applies to any checkpoint folder that has model.safetensors."""
