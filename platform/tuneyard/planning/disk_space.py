"""How much a run will write, asked before it starts: a disk that fills up after hours costs the run."""

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

MOMENTS_BYTES = 8
"""Adam's two fp32 moments, per trained parameter."""

CHECKPOINTS_AT_ONCE = {"transformers": 3, "nemo": 4}
"""Those that are kept, and the one being written."""


def check_disk_space(config: FinetuneConfig, base: Mapping[str, Any], *, base_is_imported: bool = False) -> None:
    """Raises StorageFullError when run.storage has less room than the run's checkpoints and its export will take.

    `base` is the content of the base's config.json; `base_is_imported`, whether NeMo's form of it is there already.
    """
    storage = config.run.folder
    existing = next(folder for folder in (storage, *storage.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    needed = storage_needed(config, base, base_is_imported=base_is_imported) - _bytes_in(
        storage / "runs" / config.run.name
    )
    if free < needed:
        raise StorageFullError(
            f"run.storage: {storage} has {_size(free)} free; checkpoints and export of this run take about "
            f"{_size(needed)}. Free space, or set run.storage to a larger disk."
        )


def storage_needed(config: FinetuneConfig, base: Mapping[str, Any], *, base_is_imported: bool = False) -> int:
    """Bytes of a run on storage at its peak: checkpoints with optimizer state, export, NeMo's form of the base."""
    parameters = count_parameters(base)
    trained = parameters if config.training.method == "full" else _adapter_parameters(config, base)
    weight_bytes = 2 if (base.get("dtype") or base.get("torch_dtype")) != "float32" else 4
    is_nemo = config.training.backend == "nemo"
    # NeMo in bf16 holds bf16 weights and fp32 main ones; everything else one fp32 copy.
    per_parameter = MOMENTS_BYTES + (6 if is_nemo and config.training.precision == "bf16" else 4)
    checkpoints = CHECKPOINTS_AT_ONCE[config.training.backend] * trained * per_parameter
    return checkpoints + parameters * weight_bytes * (2 if is_nemo and not base_is_imported else 1)


def count_parameters(base: Mapping[str, Any]) -> int:
    """Parameters of a GPT-OSS model, by its config.json."""
    return sum(math.prod(shape) for shape in expected_tensors(base).values())


def _adapter_parameters(config: FinetuneConfig, base: Mapping[str, Any]) -> int:
    ends: tuple[str, ...] = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight")
    if config.training.lora.experts:
        ends += ("gate_up_proj", "down_proj")
    adapted = [shape for name, shape in expected_tensors(base).items() if name.endswith(ends)]
    lora, layers = config.training.lora, int(base["num_hidden_layers"])
    share = min(lora.last_layers or layers, layers) / layers
    # Per expert, where there are several: [..., in, out].
    return int(share * lora.rank * sum(math.prod(shape[:-2]) * sum(shape[-2:]) for shape in adapted))


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a checkpoint that is being removed
            total += path.stat().st_size if path.is_file() else 0
    return total


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
