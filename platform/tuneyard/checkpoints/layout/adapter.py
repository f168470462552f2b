"""Rules about a LoRA adapter in PEFT's files: which folder is one, its config fields, its tensors' names and shapes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tuneyard.checkpoints.layout.content_hashes import TensorEntry
from tuneyard.core.wording import short_repr

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

EXPERT_ADAPTER = re.compile(r"\.mlp\.experts(\.base_layer)?$")
"""Modules whose adapters change parameters: PEFT stacks those of all experts along the rank. With two such parameters
in one module, the adapter of the first lies in `base_layer`."""

FREE_FIELDS = frozenset(
    {
        "base_model_name_or_path",
        "inference_mode",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "lora_dropout",
        "peft_version",
        "qalora_group_size",
        "r",
        "target_modules",
        "target_parameters",
    }
)
"""Fields that may have any value: sizes and names of modules, and what no loader acts on."""

NAMES = ("layers_pattern", "target_modules", "target_parameters")
"""Free fields that hold names of modules."""

_NAME = re.compile(r"[A-Za-z0-9_.]{1,500}")

MAX_RANK = 8192
"""Largest rank that is read. PEFT makes matrices of this rank before it reads the adapter's."""

FIXED_FIELDS: dict[str, Any] = {
    "bias": "none",
    "init_lora_weights": True,
    "megatron_core": "megatron.core",
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
}
"""Fields that must have one value. Every other field must be empty: it changes what the adapter computes, or makes a
loader import a module (`auto_mapping`, `megatron_config`)."""

_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter in place of a model."""
    return (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").exists()


def adapter_config_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yields one message for each field of adapter_config.json that is not that of a plain LoRA adapter."""
    for field, expected in FIXED_FIELDS.items():
        if config.get(field, expected) != expected:
            yield f"{ADAPTER_CONFIG}: {field} is {short_repr(config[field])}; only {expected!r} is supported."
    for field in sorted(config.keys() - FREE_FIELDS - FIXED_FIELDS.keys()):
        if config[field] not in (None, False, {}, []):
            yield (
                f"{ADAPTER_CONFIG}: {field} is {short_repr(config[field])}, which is not a field of a plain LoRA "
                "adapter; a loader may import code for it, or compute something else. Export the adapter again."
            )
    for field in NAMES:
        value = config.get(field)
        names = [value] if isinstance(value, str) and field == "layers_pattern" else value or []
        if not isinstance(names, list) or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
            yield (
                f"{ADAPTER_CONFIG}: {field} is {short_repr(value)}, but must be names of modules. PEFT takes other "
                "text as a regular expression, which can run for ever. Export the adapter again."
            )
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if type(rank) is not int or not 1 <= rank <= MAX_RANK:
        yield (
            f"{ADAPTER_CONFIG}: r, the rank, is {short_repr(rank)}; it must be from 1 to {MAX_RANK}. "
            "Export the adapter again."
        )
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) < 1e9:
        yield f"{ADAPTER_CONFIG}: lora_alpha is {short_repr(alpha)}. Export the adapter again."


def adapter_tensor_problems(
    config: Mapping[str, Any], tensors: Mapping[str, TensorEntry], base: Mapping[str, TensorEntry] | None
) -> Iterator[str]:
    """Yields one message for each tensor that is not half of a LoRA pair of the rank in `config`.

    `base` holds the base's tensors; with it, the pairs must fit the weights that they change.
    """
    pairs: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, entry in sorted(tensors.items()):
        if (match := _TENSOR.fullmatch(name)) is None or len(entry.shape) != 2:
            yield f"{name} {entry.shape} is not a LoRA matrix. Export the adapter again."
        else:
            pairs.setdefault(match["module"], {})[match["side"]] = entry.shape
    if not pairs:
        yield f"{ADAPTER_WEIGHTS} holds no LoRA matrix. Export the adapter again."
    for module, pair in pairs.items():
        if len(pair) != 2:
            yield f"{module}: lora_A and lora_B must both be there. Export the adapter again."
            continue
        (rank, inputs), (outputs, other_rank) = pair["A"], pair["B"]
        if rank != other_rank or (rank % config["r"] if EXPERT_ADAPTER.search(module) else rank != config["r"]):
            yield f"{module}: the ranks are {rank} and {other_rank} where {ADAPTER_CONFIG} says {config['r']}."
        if base is None or EXPERT_ADAPTER.search(module):
            continue
        weight = base.get(f"{module}.weight")
        if weight is None or weight.shape != (outputs, inputs):
            found = f"has {weight.shape}" if weight is not None else "has no such weight"
            yield f"{module}: the adapter changes a weight of {(outputs, inputs)}, but the base {found}."
