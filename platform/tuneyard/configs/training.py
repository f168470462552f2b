"""TrainingConfig: method, optimizer, batch sizes, checkpoints; and what only the NeMo backend has."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tuneyard.core.strict_model import StrictConfig


class LoraConfig(StrictConfig):
    """Low-rank adapters (LoRA, Hu et al. 2021). Read when `training.method` is `lora`."""

    rank: int = Field(default=16, ge=1)
    """Rank of the adapter matrices. A higher rank trains more parameters."""

    alpha: float = Field(default=32.0, gt=0)
    """Scale of the adapters: their output is multiplied by alpha / rank."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapters' inputs that is set to zero in training, to reduce overfitting. 0 with `experts`."""

    experts: bool = False
    """Trains adapters on the experts' projections too. Attention q, k, v and o always have adapters."""

    last_layers: int | None = Field(default=None, ge=1)
    """Number of layers with adapters, counted from the last. The backward pass stops below them, so fewer layers train
    faster. null: all layers."""


class DpoConfig(StrictConfig):
    """Direct preference optimisation (DPO, Rafailov et al. 2023). Read when `training.objective` is `dpo`."""

    beta: float = Field(default=0.1, gt=0)
    """How strongly the model is kept near the base: the reward of an answer is beta × (its log-probability − that of
    the base). A lower value lets the model move further away. OpenAI's and TRL's `beta`."""


class TrainingConfig(StrictConfig):
    """Objective, method, optimizer (AdamW), batch sizes and checkpoints."""

    backend: Literal["transformers", "nemo"] = "transformers"
    """The training engine. `transformers` runs on CPUs and GPUs. `nemo` (NeMo 2, Megatron-Core) runs on GPUs, in an
    environment of its own."""

    method: Literal["lora", "full"] = "lora"
    """`lora` trains adapters and merges them into the weights at export. `full` trains every weight."""

    lora: LoraConfig = LoraConfig()

    objective: Literal["supervised", "dpo"] = "supervised"
    """`supervised` trains on the answers of chats. `dpo` trains on preference pairs: it raises the probability of the
    chosen answer over that of the rejected one. It wants a learning rate 10 to 40 times lower. It needs the backend
    `transformers`, a `data.batching` other than `packed`, and router_aux_loss_coef 0."""

    dpo: DpoConfig = DpoConfig()

    epochs: float = Field(default=3.0, gt=0)
    """Passes over the training data. A fraction ends within a pass."""

    max_steps: int | None = Field(default=None, ge=1)
    """Number of optimizer steps; replaces `epochs`. null: `epochs` decides."""

    learning_rate: float = Field(default=2e-4, gt=0)
    """Highest learning rate, reached at the end of the warm-up."""

    schedule: Literal["linear", "cosine", "constant_with_warmup"] = "cosine"
    """Course of the learning rate after the warm-up. `linear` and `cosine` fall to 0 at the end of the run."""

    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    """Share of all steps in which the learning rate rises from 0 to its highest value."""

    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay of AdamW."""

    adam_beta2: float = Field(default=0.999, gt=0, lt=1)
    """Decay rate of AdamW's second moment."""

    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients with a larger norm, taken over all parameters, are scaled down to it."""

    batch_size_per_worker: int = Field(default=4, ge=1)
    """Rows in one forward pass of a worker; a preference pair is one row, and takes the memory of two. Rows per
    optimizer step: batch_size_per_worker × gradient_accumulation_steps × num_workers; with NeMo, times the number of
    model copies instead of num_workers."""

    gradient_accumulation_steps: int = Field(default=1, ge=1)
    """Forward and backward passes of a worker per optimizer step."""

    router_aux_loss_coef: float = Field(default=0.0, ge=0)
    """Weight of the load-balancing loss of the expert router, taken over each conversation. GPT-OSS's own config says
    0.9, with which the loss diverges in finetuning."""

    precision: Literal["fp32", "bf16"] | None = None
    """Precision of the forward and backward pass. Trained weights and optimizer state stay fp32. null: `bf16` with
    `workers.use_gpu`, otherwise `fp32`."""

    gradient_checkpointing: bool | None = None
    """Keeps only the input of each layer for the backward pass and computes the rest again, which takes less memory and
    more time: on an H100 1.2 to 2.1 times as much. null: true with `workers.use_gpu`, otherwise false. The NeMo backend
    keeps the recipe's value and takes only null."""

    sharding: Literal["none", "fsdp2"] = "none"
    """How several workers hold the model. `none`: each holds all of it, which is faster if it fits. `fsdp2`: weights,
    gradients and optimizer state are divided among the workers, and each layer is gathered when it computes (PyTorch's
    FSDP2). The result is the same. The NeMo backend divides the model as `nemo` says, and takes only `none`."""

    keep_frozen_outputs: bool | None = None
    """Computes the layers below `lora.last_layers`, which training does not change, once per row, and keeps their
    outputs for later epochs and evaluations in a temporary file of each node: 4 bytes × hidden size per token, up to 1
    GiB and half of the free disk; rows beyond that are computed again. Losses differ from those of false by fp32
    rounding at most. Needs workers without GPUs, `precision` fp32, `lora.last_layers`, `sharding: none` and
    router_aux_loss_coef 0. null: true where that is so and the run is longer than one epoch."""

    seed: int = 17
    """Seed of the row order, the initial adapter weights and dropout."""

    eval_every_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps between two evaluations on the held-out rows. null: one evaluation per epoch."""

    checkpoint_every_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps between two checkpoints with optimizer state. After a failure the run repeats at most this many
    steps. null: one checkpoint per epoch."""

    early_stopping_patience: int | None = Field(default=None, ge=1)
    """Number of evaluations without a lower held-out loss after which training stops. The best checkpoint is then
    exported. null: training never stops early, and the last checkpoint is exported."""


class NemoConfig(StrictConfig):
    """Fields of the NeMo backend. Read when `training.backend` is `nemo`."""

    recipe: Literal["gpt_oss_20b", "gpt_oss_120b"] = "gpt_oss_20b"
    """The NeMo recipe whose values this config overrides. Model sizes are those of the base, whatever the recipe."""

    tensor_parallel: int | None = Field(default=None, ge=1)
    """GPUs that share each weight matrix. Only 1 trains correctly (Megatron-Core 0.15). null keeps the recipe's
    value."""

    pipeline_parallel: int | None = Field(default=None, ge=1)
    """Groups of consecutive layers, each on its own GPUs. null keeps the recipe's value."""

    expert_parallel: int | None = Field(default=None, ge=1)
    """GPUs among which the experts of a layer are distributed. null keeps the recipe's value."""

    context_parallel: int | None = Field(default=None, ge=1)
    """GPUs that share each row. null keeps the recipe's value."""

    gpus_per_node: int = Field(default=8, ge=1)
    """GPUs of each node. NeMo runs on num_workers / gpus_per_node nodes, rounded up."""
