"""Whether run.storage has room for a run's checkpoints and export, checked before the run starts."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuneyard.checkpoints.layout.gpt_oss import expected_tensors
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import StorageFullError

ADAM_MOMENT_BYTES = 8
"""Bytes of Adam's two fp32 moments per trained parameter."""

MORE_CHECKPOINTS = {"transformers": 1, "nemo": 2}
"""Checkpoints beside those that are kept, by backend: the one being written, and one more that NeMo keeps."""


def check_disk_space(config: FinetuneConfig, base: Mapping[str, Any], *, base_is_imported: bool = False) -> None:
    """Raises StorageFullError if run.storage has less free space than the run will still write.

    `base` is the content of the base's config.json. `base_is_imported` says that the base already exists in NeMo's
    format.
    """
    storage = config.run.folder
    existing = next(folder for folder in (storage, *storage.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    written = _bytes_in(storage / "runs" / config.run.name)
    needed = storage_needed(config, base, base_is_imported=base_is_imported) - written
    if free < needed:
        raise StorageFullError(
            f"run.storage: {storage} has {_gigabytes(free)} free, but the checkpoints and the export of this run take "
            f"about {_gigabytes(needed)}. Free space, or set run.storage to a larger disk"
            + _fewer_exports(exported_checkpoints(config))
        )


def exported_checkpoints(config: FinetuneConfig) -> int:
    """How many models the run exports at most. By default it saves a checkpoint at the end of each epoch."""
    wanted, training = config.run.exported_checkpoints, config.training
    if training.checkpoint_every_steps is not None or training.max_steps is not None:
        return wanted
    return min(wanted, math.ceil(training.epochs))


def _fewer_exports(count: int) -> str:
    if count == 1:
        return "."
    return (
        f", or export fewer than {count} checkpoints: run.exported_checkpoints, of a job of the fine-tuning API "
        "platform.bases.NAME.checkpoints."
    )


def storage_needed(config: FinetuneConfig, base: Mapping[str, Any], *, base_is_imported: bool = False) -> int:
    """Largest number of bytes that a run uses: checkpoints with optimizer state, exports, the base in NeMo's format."""
    parameters = count_parameters(base)
    trained = count_trained_parameters(config, base)
    weight_bytes = 2 if (base.get("dtype") or base.get("torch_dtype")) != "float32" else 4
    is_nemo = config.training.backend == "nemo"
    # NeMo in bf16 stores bf16 weights and an fp32 copy of them. Everything else stores one fp32 copy.
    bytes_per_parameter = ADAM_MOMENT_BYTES + (6 if is_nemo and config.precision == "bf16" else 4)
    exports = exported_checkpoints(config)
    at_once = max(2, exports) + MORE_CHECKPOINTS[config.training.backend]
    models = exports + (1 if is_nemo and not base_is_imported else 0)
    return at_once * trained * bytes_per_parameter + models * parameters * weight_bytes


def count_parameters(base: Mapping[str, Any]) -> int:
    """The number of parameters of a GPT-OSS model, from its config.json."""
    return sum(math.prod(shape) for shape in expected_tensors(base).values())


def count_trained_parameters(config: FinetuneConfig, base: Mapping[str, Any]) -> int:
    """The number of parameters that the run trains."""
    return count_parameters(base) if config.training.method == "full" else _adapter_parameters(config, base)


def _adapter_parameters(config: FinetuneConfig, base: Mapping[str, Any]) -> int:
    suffixes: tuple[str, ...] = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight")
    if config.training.lora.experts:
        suffixes += ("gate_up_proj", "down_proj")
    adapted = [shape for name, shape in expected_tensors(base).items() if name.endswith(suffixes)]
    lora, layers = config.training.lora, int(base["num_hidden_layers"])
    layer_share = min(lora.last_layers or layers, layers) / layers
    # A matrix [in, out] has adapters of rank × (in + out) parameters; expert matrices are [experts, in, out].
    return int(layer_share * lora.rank * sum(math.prod(shape[:-2]) * sum(shape[-2:]) for shape in adapted))


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a checkpoint may be removed at the same time
            total += path.stat().st_size if path.is_file() else 0
    return total


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
