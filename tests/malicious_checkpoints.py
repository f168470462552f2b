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

from tuneyard.configs.finetune import FinetuneConfig

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


def run_from(base: Path) -> FinetuneConfig:
    """The config of a run that finetunes the base."""
    data = {"train": "jobs/data/brindle_train.jsonl"}
    run = {"run": {"name": "r", "model_name": "m"}, "model": {"base": str(base)}, "data": data}
    return FinetuneConfig.model_validate(run)


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


def _nested(path: Path, field: str, depth: int) -> None:
    """Adds a field that is nested as deeply as Python's reader of JSON still reads, with a name on the Hub inside."""
    text = path.read_text(encoding="utf-8").rstrip().removesuffix("}")
    path.write_text(f'{text}, "{field}": {"[" * depth}"evil/kernel"{"]" * depth}}}', encoding="utf-8")


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


def _link_loop_parent(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "up").symlink_to("../..", target_is_directory=True)


def _sparse(name: str) -> Callable[[Path], object]:
    """A file of 65 MiB that takes no space on the disk."""

    def write(folder: Path) -> None:
        with (folder / name).open("ab") as file:
            file.truncate(65 * 2**20)

    return write


def _deep_folders(folder: Path) -> None:
    """As many folders as Python's own walks fail on, none deeper than a path may be long."""
    (folder / "/".join(["d"] * 60)).mkdir(parents=True)


TERMINAL = "\x1b]0;renamed\x07\x1b[2J\nerror: nothing is wrong"
"""Renames a terminal's window, clears it, and begins another line."""

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
    "folder link upwards": Attack(_link_loop_parent, "is a symbolic link out of the folder"),
    "folders without end": Attack(_deep_folders, "is a folder 50 folders deep"),
    "template without end": Attack(_sparse("chat_template.jinja"), "would read all of them into memory"),
    "config without end": Attack(_sparse("config.json"), "would read all of them into memory"),
    "code in a file too large to be read": Attack(
        _sparse("processor_config.json"), "would read all of them into memory"
    ),
    "folder as weights": Attack(
        lambda folder: (folder / "x.safetensors").mkdir(), "is a folder with the name of a file"
    ),
    "zip archive": Attack(
        lambda folder: (folder / "notes.txt").write_bytes(b"PK\x03\x04" + bytes(20)), "an archive that can hold one"
    ),
    "file name for the terminal": Attack(
        lambda folder: (folder / f"{TERMINAL}.txt").write_text("x"),
        r"\x1b]0;renamed\x07\x1b[2J\nerror: nothing is wrong",
    ),
    "file name that is no text": Attack(
        lambda folder: (folder / os.fsdecode(b"name\xff.txt")).write_text("x"), r"name\udcff.txt has characters"
    ),
    "field for the terminal": Attack(
        _config(**{TERMINAL: 1}), r"\x1b]0;renamed\x07\x1b[2J\nerror: nothing is wrong is 1"
    ),
    "value nested deeply": Attack(
        lambda folder: _nested(folder / "config.json", "id2label", 800), "which is a path or a name on the Hub"
    ),
    "layers without end": Attack(_config(num_hidden_layers=10**9), "num_hidden_layers is 1000000000, but must be"),
    "size as text": Attack(_config(hidden_size="64"), "hidden_size is '64', but must be an integer"),
    "size that is no number of 32 bits": Attack(
        _config(max_position_embeddings=2**60), "max_position_embeddings is 1152"
    ),
    "number that is none": Attack(_config(rms_norm_eps=float("nan")), "rms_norm_eps is nan, but must be a positive"),
    "infinite rope": Attack(_config(rope_theta=float("inf")), "rope_theta is inf, but must be a positive number"),
    "rope of text": Attack(_config(rope_parameters={"rope_type": "yarn", "factor": "x"}), "rope_parameters is {"),
    "rope as an array": Attack(_config(rope_scaling=[1]), "rope_scaling is [1], but must be an object"),
    "unknown rope": Attack(_config(rope_scaling={"rope_type": "evil"}), "rope_scaling is {'rope_type': 'evil'}"),
    "quantisation as text": Attack(_config(quantization_config="mxfp4"), "quantization_config is 'mxfp4'"),
    "token outside": Attack(_config(pad_token_id=10**6), "pad_token_id is 1000000, but must be the id of a token"),
    "more experts than there are": Attack(_config(num_experts_per_tok=99), "num_experts_per_tok is 99"),
    "heads that cannot be grouped": Attack(_config(num_key_value_heads=3), "no multiple of num_key_value_heads"),
    "unknown layer": Attack(_config(layer_types=["evil", "full_attention"]), "layer_types is ['evil'"),
    "other activation": Attack(_config(hidden_act="evil"), "hidden_act is 'evil', but must be 'silu'"),
    "other model": Attack(_config(model_type="llama"), "model_type is 'llama', but must be 'gpt_oss'"),
    "biases left out": Attack(_config(attention_bias=False), "attention_bias is False, but must be True"),
    "pipe": Attack(lambda folder: os.mkfifo(folder / "model-2.safetensors"), "is a device, pipe or socket"),
}
"""By kind. Each applies to any checkpoint folder that has model.safetensors."""
