"""Main memory of a run on its nodes: of the workers that load and train the model, and of the export."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuneyard.arithmetic.cpu_products import KERNEL_BYTES
from tuneyard.checkpoints.layout.gpt_oss import expected_tensors, is_expert_matrix
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.planning.disk_space import count_parameters
from tuneyard.planning.training.memory_plan import BatchShape, frozen_bytes, training_memory

PROCESS_BYTES = 750_000_000
"""A process with PyTorch, transformers and Ray, before it holds a model: 483 MB were measured without Ray; the rest is
for Ray, estimated. On a GPU node CUDA adds more, which is not known."""

MXFP4_BYTES = 17 / 32
"""Bytes of a value in MXFP4: half a byte, and a byte of scale for 32 values. transformers' threads read experts ahead
of their dequantising, at most all of them."""

INDEX_BYTES = 2
"""Bytes per value of an expert matrix that is being dequantised: a 4-byte index for every other value at a time. With
them go its values before they are in order, in the dtype of the result (transformers/integrations/mxfp4.py, 5.24)."""

EXPORT_BYTES = {"transformers": 4, "nemo": 8}
"""Bytes per parameter of the export's one process, by backend: the model in fp32, which NeMo's export holds twice."""

IMPORT_COPIES, IMPORT_OVERHEAD = 2, 1.13
"""Whole models that NeMo holds while it imports a base: source and target (nemo/lightning/io/connector.py, 2.7.3).
Importing 120B took 530 GB, which is 1.13 times two copies of its 117 billion parameters in bf16: layers in conversion,
libraries."""


@dataclass(frozen=True, slots=True)
class HostMemory:
    """Bytes of main memory."""

    first_worker: int
    """The process of worker 0."""
    worker: int
    """The process of every other worker."""
    sharded_worker: int
    """The process of every other worker with training.sharding: fsdp2."""
    export: int
    """The process of the export, which runs when the workers have ended."""

    def of_workers(self, count: int) -> int:
        """Bytes of `count` workers on one node, with worker 0 among them."""
        return self.first_worker + (count - 1) * self.worker


def host_memory(
    config: FinetuneConfig,
    base: Mapping[str, Any],
    batch: BatchShape,
    heldout: BatchShape | None = None,
    *,
    base_is_imported: bool = False,
) -> HostMemory:
    """The run's main memory, from the content of the base's config.json and the largest batches of the data.

    `base_is_imported` says that the base already exists in NeMo's format.
    """
    parameters = count_parameters(base)
    export = PROCESS_BYTES + EXPORT_BYTES[config.training.backend] * parameters
    if config.training.backend == "nemo":
        loading = 0 if base_is_imported else import_bytes(base, 2 if config.precision == "bf16" else 4)
        return HostMemory(PROCESS_BYTES + loading, PROCESS_BYTES, PROCESS_BYTES, export)
    if config.training.method == "lora":
        export += _dequantising_bytes(base, 4)
    size = frozen_bytes(config) if config.training.method == "lora" else 4
    loading = parameters * size + _dequantising_bytes(base, size)
    if config.training.sharding == "fsdp2" and not config.workers.use_gpu:
        # Worker 0's own part lies beside the whole model, from which it is copied.
        loading += parameters * size // config.model_shards
    first = PROCESS_BYTES + max(loading, _training_bytes(config, base, batch, heldout))
    sharded = config.model_copy(update={"training": config.training.model_copy(update={"sharding": "fsdp2"})})
    sharded_worker = PROCESS_BYTES + _training_bytes(sharded, base, batch, heldout)
    return HostMemory(first, first if config.training.sharding == "none" else sharded_worker, sharded_worker, export)


def _training_bytes(
    config: FinetuneConfig, base: Mapping[str, Any], batch: BatchShape, heldout: BatchShape | None
) -> int:
    """Main memory that training takes: what would be a GPU's memory, if there is no GPU, and oneDNN's code."""
    return 0 if config.workers.use_gpu else training_memory(config, base, batch, heldout).peak + KERNEL_BYTES


def _dequantising_bytes(base: Mapping[str, Any], size: int) -> int:
    """Main memory that reading experts in MXFP4 takes beside values of `size` bytes; 0 for other bases."""
    if not base.get("quantization_config"):
        return 0
    experts = [math.prod(shape) for name, shape in expected_tensors(base).items() if is_expert_matrix(name, shape)]
    return round(MXFP4_BYTES * sum(experts)) + max(size, INDEX_BYTES + size // 2) * max(experts)


def import_bytes(base: Mapping[str, Any], bytes_per_parameter: int) -> int:
    """Main memory in bytes for importing a base into NeMo 2 format: 2 bytes per parameter for bf16, 4 for fp32."""
    return round(IMPORT_COPIES * IMPORT_OVERHEAD * bytes_per_parameter * count_parameters(base))
