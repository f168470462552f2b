"""FinetuneConfig: every field of a finetuning run, and the checks that compare fields of different sections."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tuneyard.chats.row_settings import RowSettings
from tuneyard.configs.experiment_tracking import WandbConfig
from tuneyard.configs.training import NemoConfig, TrainingConfig
from tuneyard.configs.workers import WorkersConfig
from tuneyard.core.errors import ConfigError
from tuneyard.core.path_fields import ConfigLocation, DataLocation
from tuneyard.core.strict_model import StrictConfig
from tuneyard.harmony.settings import CodecSettings
from tuneyard.storage.location import StorageLocation, default_storage, is_uri

CONFIG_NAME = "config.json"
"""The file in a run's folder that holds its FinetuneConfig."""

ADAPTER_SUFFIX = "-adapter"
"""Ends the names of exported adapters in the registry, and no model's."""


class ModelConfig(StrictConfig):
    """The base checkpoint that training starts from."""

    base: StorageLocation
    """A GPT-OSS checkpoint in Hugging Face format (config.json, tokenizer.json, safetensors): a folder, or a URI in an
    object store. A checkpoint at a URI needs a manifest; `tuneyard models adopt` writes one for a downloaded model."""

    experts_implementation: Literal["eager", "grouped_mm", "batched_mm"] | None = None
    """How transformers computes the experts. null: `eager` on a CPU, where it is fastest, and transformers' default on
    a GPU."""

    attention_implementation: Literal["eager", "flex_attention"] | None = None
    """How transformers computes attention in training. `eager` holds a score for every pair of tokens of a row.
    `flex_attention` (a GPU only) holds none, and skips what the sliding window or a pack rules out. null:
    `flex_attention` on a GPU, otherwise `eager`."""

    @property
    def folder(self) -> Path:
        """The base as a folder. Raises ConfigError if it is in an object store: call `with_local_base` first."""
        return _require_folder(self.base, "model.base")


class DataFiles(StrictConfig):
    """Where the chats are."""

    train: DataLocation
    """Chats to train on: a file (JSONL, JSON, CSV or Parquet, also as .gz or .zst), a folder of such files, a pattern
    (`data/train-*`), a URI, or `hf:owner/name[#config][:split]` for a dataset on the Hugging Face Hub."""

    heldout: DataLocation | None = None
    """Chats that are never trained on, given like `train`. They measure the evaluation loss during training and verify
    the exported checkpoint. null: no evaluation."""


class DataConfig(RowSettings, DataFiles):
    """The chats to train on, how rows become chats, and how chats become batches."""

    batching: Literal["padded", "grouped", "packed"] = "grouped"
    """How training rows become batches. `padded`: random rows, padded to the longest of the batch. `grouped`: rows of
    similar length together, which needs less padding. `packed`: several rows in one sequence of up to max_length
    tokens, without attention between them. Held-out rows are never packed."""

    train_on_reasoning: bool = True
    """Trains the model to produce the reasoning in the data. false: reasoning is only context for the answer."""

    max_length: int = Field(default=2048, ge=16)
    """Largest number of tokens in a row."""

    too_long: Literal["error", "drop"] = "error"
    """What happens to rows with more than max_length tokens. `error` refuses the run. `drop` leaves them out and lists
    the first of them. Rows are never truncated."""


class ParityConfig(StrictConfig):
    """The prompts that a checkpoint's manifest keeps, to prove that serving renders prompts as training did."""

    rows: Literal["anonymous", "real"] = "anonymous"
    """`anonymous`: prompts of up to 16 rows with every word, number and name replaced; roles, lengths, scripts, special
    characters and the structure of tools stay. `real` keeps the words, so that the manifest holds chats of the data."""


class RunConfig(StrictConfig):
    """Name and storage of the run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run. Starting a run of the same name again resumes it."""

    model_name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the model in the registry. Each successful run adds a version. Names that end in `-adapter` are those of
    exported adapters: MODEL-adapter holds the adapters of MODEL."""

    storage: StorageLocation = Field(default_factory=default_storage, validate_default=True)
    """Where `runs/`, `models/` and `tokens/` are kept: a folder, or a URI in an object store. A run on several nodes
    needs a folder that all of them see. Default: `$TUNEYARD_STORAGE`, else `$TUNEYARD_HOME`."""

    resume: bool = True
    """Continues from the last checkpoint of a run of the same name. false: starts over, and renames the folder of the
    old run."""

    exported_checkpoints: int = Field(default=1, ge=1, le=3)
    """Checkpoints that a successful run exports, proves and registers, each as a version of the model: the last one,
    and those before it that training kept. Training keeps at least as many. Each takes the time of an export and the
    disk space of a model; one that cannot be exported is left out with a message, unless it is the last one. With
    early stopping the last one is the best one. `@newest` is always the last one."""

    @property
    def kept_checkpoints(self) -> int:
        """The checkpoints that training keeps to resume from or to export: two at least, in case one is damaged."""
        return max(2, self.exported_checkpoints)

    @field_validator("model_name")
    @classmethod
    def _check_no_adapter_name(cls, name: str) -> str:
        if name.endswith(ADAPTER_SUFFIX):
            raise ValueError(
                f"{name} ends in {ADAPTER_SUFFIX}, as names of exported adapters do: it would hold the adapters of "
                f"{name.removesuffix(ADAPTER_SUFFIX)} too. Choose another name"
            )
        return name

    @property
    def adapter_name(self) -> str:
        """The name in the registry of the model's adapters."""
        return self.model_name + ADAPTER_SUFFIX

    @property
    def folder(self) -> Path:
        """`storage` as a folder. Raises ConfigError if it is in an object store."""
        return _require_folder(self.storage, "run.storage")


def _require_folder(location: str, field: str) -> Path:
    if is_uri(location):
        raise ConfigError(f"{field}: {location} is in an object store, but this needs a folder. Give a mounted folder.")
    return Path(location)


class FinetuneConfig(StrictConfig):
    """A finetuning run. Only `run.name`, `run.model_name`, `model.base` and `data.train` are required."""

    run: RunConfig
    model: ModelConfig
    data: DataConfig
    codec: CodecSettings = CodecSettings()
    training: TrainingConfig = TrainingConfig()
    workers: WorkersConfig = WorkersConfig()
    nemo: NemoConfig = NemoConfig()
    parity: ParityConfig = ParityConfig()
    deploy: ConfigLocation | None = None
    """Config file of a deployment to start when the model is registered. One of its models must have the checkpoint
    `<run.model_name>@newest`. On a running cluster the deployment stays up after the run. null: nothing is deployed."""

    wandb: WandbConfig | None = None
    """The run at Weights & Biases that gets this run's settings, metrics and final state, and no text of its data. It
    needs the extra `wandb` and the environment variable WANDB_API_KEY where the run's driver is. A server that does not
    answer costs a warning. null: none; metrics are in MLflow in any case."""

    @model_validator(mode="before")
    @classmethod
    def _set_preference(cls, fields: Any) -> Any:
        """`data.preference: pairs` where the objective is dpo and the field is not set."""
        if not isinstance(fields, dict) or not isinstance(fields.get("training"), dict):
            return fields
        data = fields.get("data")
        if fields["training"].get("objective") != "dpo" or not isinstance(data, dict):
            return fields
        return fields if data.get("preference") else fields | {"data": data | {"preference": "pairs"}}

    @property
    def precision(self) -> Literal["fp32", "bf16"]:
        """`training.precision`, or what its null stands for."""
        return self.training.precision or ("bf16" if self.workers.use_gpu else "fp32")

    @property
    def uses_gradient_checkpointing(self) -> bool:
        """`training.gradient_checkpointing`, or what its null stands for."""
        chosen = self.training.gradient_checkpointing
        return self.workers.use_gpu if chosen is None else chosen

    @property
    def obstacles_to_kept_outputs(self) -> list[str]:
        """The settings with which `training.keep_frozen_outputs` cannot be true."""
        training = self.training
        obstacles = {
            "training.backend: nemo": training.backend == "nemo",
            "training.method: full": training.method == "full",
            "training.lora.last_layers: null": training.method == "lora" and training.lora.last_layers is None,
            "training.precision: bf16": self.precision == "bf16",
            "training.router_aux_loss_coef over 0": training.router_aux_loss_coef > 0,
            "training.sharding: fsdp2": training.sharding != "none",
            "workers.use_gpu: true": self.workers.use_gpu,
        }
        return [name for name, is_set in obstacles.items() if is_set]

    @property
    def model_shards(self) -> int:
        """The number of workers that share a copy of the model; with elastic runs the smallest."""
        return self.workers.worker_counts[0] if self.training.sharding == "fsdp2" else 1

    def accumulation_at(self, workers: int) -> int:
        """The gradient accumulation with which `workers` workers take as many rows per step as num_workers do."""
        return self.training.gradient_accumulation_steps * self.workers.num_workers // workers

    @model_validator(mode="after")
    def _check_heldout(self) -> Self:
        patience = self.training.early_stopping_patience
        if patience is not None and self.data.heldout is None:
            raise ValueError(f"training.early_stopping_patience={patience} needs data.heldout, which is not set")
        if self.data.heldout is not None and self.data.heldout == self.data.train:
            raise ValueError(f"data.heldout and data.train are the same file: {self.data.train}. Give different chats")
        return self

    @model_validator(mode="after")
    def _check_worker_counts(self) -> Self:
        counts, batches_per_step = self.workers.worker_counts, self.accumulation_at(1)
        if not counts:
            raise ValueError(
                f"workers.min_workers={self.workers.min_workers} is more than num_workers={self.workers.num_workers}"
            )
        uneven = [count for count in counts if batches_per_step % count]
        if uneven:
            multiple = math.lcm(*counts) // math.gcd(math.lcm(*counts), self.workers.num_workers)
            raise ValueError(
                f"{uneven[0]} workers, which workers.min_workers={self.workers.min_workers} allows, cannot share the "
                f"{batches_per_step} batches of a step evenly. Set training.gradient_accumulation_steps to a multiple "
                f"of {multiple}"
            )
        return self

    @model_validator(mode="after")
    def _check_objective(self) -> Self:
        training, preference = self.training, self.data.preference
        if (training.objective == "dpo") != (preference == "pairs"):
            raise ValueError(
                f"training.objective={training.objective} and data.preference={preference} contradict each other: "
                "pairs are trained with dpo, and dpo trains on nothing else. Leave data.preference out with "
                "training.objective=dpo, or set it to chosen or rejected to train on chats"
            )
        if training.objective == "supervised":
            return self
        unsupported = {
            "training.backend: nemo": training.backend == "nemo",
            "data.batching: packed": self.data.batching == "packed",
            "training.router_aux_loss_coef over 0": training.router_aux_loss_coef > 0,
        }
        if used := [name for name, is_used in unsupported.items() if is_used]:
            raise ValueError(
                f"training.objective=dpo does not support {', '.join(used)}. Remove the setting, or train on one "
                "answer of each pair: training.objective=supervised with data.preference=chosen"
            )
        return self

    @model_validator(mode="after")
    def _check_adapters(self) -> Self:
        lora = self.training.lora
        if self.training.method == "lora" and lora.experts and lora.dropout > 0:
            raise ValueError(
                f"training.lora.dropout={lora.dropout} cannot be combined with training.lora.experts: the adapters of "
                "experts are added to the weights, before there is an input to drop. Set one of them only"
            )
        return self

    @model_validator(mode="after")
    def _check_kept_outputs(self) -> Self:
        if self.training.keep_frozen_outputs and (obstacles := self.obstacles_to_kept_outputs):
            raise ValueError(
                f"training.keep_frozen_outputs cannot be true with {' and '.join(obstacles)}. Leave it out: it is used "
                "where it can be"
            )
        return self

    @model_validator(mode="after")
    def _check_attention(self) -> Self:
        if self.model.attention_implementation == "flex_attention" and not self.workers.use_gpu:
            raise ValueError(
                "model.attention_implementation=flex_attention needs workers.use_gpu: true. On CPUs PyTorch has no "
                "backward pass for it. Leave the field out, or set it to eager"
            )
        return self

    @model_validator(mode="after")
    def _check_nemo_support(self) -> Self:
        if self.training.backend != "nemo":
            return self
        training = self.training
        unsupported = {
            "data.batching: packed": self.data.batching == "packed",
            "training.lora.experts": training.method == "lora" and training.lora.experts,
            "training.early_stopping_patience": training.early_stopping_patience is not None,
            "training.router_aux_loss_coef over 0": training.router_aux_loss_coef > 0,
            "training.gradient_checkpointing": training.gradient_checkpointing is not None,
            "training.sharding: fsdp2": training.sharding != "none",
            "model.experts_implementation": self.model.experts_implementation is not None,
            "model.attention_implementation": self.model.attention_implementation is not None,
            "workers.min_workers": self.workers.min_workers is not None,
        }
        for field, location in (("run.storage", self.run.storage), ("model.base", self.model.base)):
            if is_uri(location):
                raise ValueError(
                    f"{field}={location}: all NeMo workers read and write the same folder. Instead of a URI, give a "
                    "mounted one that all nodes see (NFS, FSx, Filestore)"
                )
        if used := [name for name, is_used in unsupported.items() if is_used]:
            raise ValueError(
                f"training.backend=nemo does not support {', '.join(used)}. Remove the setting, or use "
                "training.backend=transformers"
            )
        return self
