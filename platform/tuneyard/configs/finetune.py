"""FinetuneConfig: everything that a finetuning run is made of."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from tuneyard.chats.formats import DatasetFormat
from tuneyard.core.errors import ConfigError
from tuneyard.core.resources import ACCELERATOR, GIB, Need
from tuneyard.core.strict_config import ConfigLocation, DataLocation, StrictConfig
from tuneyard.harmony.codec import CodecSettings
from tuneyard.storage.folder import Location, default_storage, is_uri


class ModelConfig(StrictConfig):
    """The base checkpoint."""

    base: Location
    """Folder of a Hugging Face GPT-OSS checkpoint (config.json, tokenizer.json, safetensors); or its URI, then with the
    manifest that `tuneyard models adopt` gives it."""

    experts_implementation: Literal["eager", "grouped_mm", "batched_mm"] | None = None
    """transformers' expert kernels; null picks eager on a CPU (faster there) and transformers' default on a GPU."""

    @property
    def folder(self) -> Path:
        """The base as a folder. Raises ConfigError when it lies on an object store: `with_local_base` comes first."""
        return _folder(self.base, "model.base")


class DataConfig(StrictConfig):
    """The chats."""

    train: DataLocation
    """Chats to train on: a file (JSONL, JSON, CSV, Parquet; .gz, .zst), a folder, a URI, `hf:owner/name[:split]`."""

    heldout: DataLocation | None = None
    """Chats never trained on: evaluation loss during training, and the export's proof."""

    format: DatasetFormat | None = None
    """Format of both; null: detected by the first row's keys."""

    batching: Literal["padded", "grouped", "packed"] = "grouped"
    """How rows become batches: `padded` to the longest of a random batch; `grouped`, rows of like length together;
    `packed`, several to a sequence of max_length, none attending to another."""

    train_on_reasoning: bool = True
    """Whether reasoning carries loss; false: it is context of the answer only."""

    max_length: int = Field(default=2048, ge=16)
    """Longest row in tokens."""

    too_long: Literal["error", "drop"] = "error"
    """What happens to longer rows: `error` refuses to train, `drop` leaves them out and names them. Never cut."""


class LoraConfig(StrictConfig):
    """Low-rank adapters (Hu et al. 2021), through PEFT."""

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    experts: bool = False
    """Adapters on the experts' projections too, besides attention q, k, v and o."""

    last_layers: int | None = Field(default=None, ge=1)
    """Adapters on the last so many layers only; null: on all. The backward pass stops below them, which is faster."""


class TrainingConfig(StrictConfig):
    """How to train."""

    backend: Literal["transformers", "nemo"] = "transformers"
    """The TrainingBackend: `transformers` anywhere, `nemo` (NeMo 2, Megatron-Core) on GPUs, in its own environment."""

    method: Literal["lora", "full"] = "lora"
    """`lora` trains adapters and merges them at export; `full` trains every weight."""

    lora: LoraConfig = LoraConfig()
    epochs: float = Field(default=3.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    """Stops after this many optimizer steps, whatever `epochs` says."""

    learning_rate: float = Field(default=2e-4, gt=0)
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = "cosine"
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    adam_beta2: float = Field(default=0.999, gt=0, lt=1)
    max_grad_norm: float = Field(default=1.0, gt=0)
    batch_size_per_worker: int = Field(default=4, ge=1)
    """Rows per worker and forward pass."""

    gradient_accumulation_steps: int = Field(default=1, ge=1)
    router_aux_loss_coef: float = Field(default=0.0, ge=0)
    """Weight of the load-balancing loss. GPT-OSS's own config says 0.9, which blows the loss up when trained with."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """Forward and backward precision; adapters and optimizer state stay fp32."""

    seed: int = 17
    eval_every_steps: int | None = Field(default=None, ge=1)
    """Evaluation on the held-out rows; null: once per epoch."""

    checkpoint_every_steps: int | None = Field(default=None, ge=1)
    """Checkpoint with optimizer state; null: once per epoch. A killed worker loses at most this much."""

    early_stopping_patience: int | None = Field(default=None, ge=1)
    """Stops after so many evaluations without a better held-out loss, and exports the best checkpoint."""


class NemoConfig(StrictConfig):
    """What only NeMo has; read when `training.backend` is `nemo`. Parallelism of null is the recipe's."""

    recipe: Literal["gpt_oss_20b", "gpt_oss_120b"] = "gpt_oss_20b"
    """The NeMo recipe that everything here overrides; sizes come from the base, whichever recipe is named."""

    tensor_parallel: int | None = Field(default=None, ge=1)
    pipeline_parallel: int | None = Field(default=None, ge=1)
    expert_parallel: int | None = Field(default=None, ge=1)
    context_parallel: int | None = Field(default=None, ge=1)
    gpus_per_node: int = Field(default=8, ge=1)


class WorkersConfig(StrictConfig):
    """The Ray Train worker group."""

    num_workers: int = Field(default=1, ge=1)
    min_workers: int | None = Field(default=None, ge=1)
    """Elastic: go on with as few when nodes are lost, and with more again when nodes come. A step takes the same rows
    whatever the number, so gradient_accumulation_steps × num_workers must be a multiple of each number between. null:
    always num_workers."""

    use_gpu: bool = False
    cpus_per_worker: float = Field(default=1.0, gt=0)
    memory_gib_per_worker: float | None = Field(default=None, gt=0)
    """Main memory that a node must have left for a worker; null asks for none in particular."""

    accelerator_type: str | None = None
    """GPUs of this type only, in Ray's word: H100, H200, B200, A100, …; null takes any."""

    resources_per_worker: dict[str, float] = Field(default_factory=dict)
    """More that a worker takes of its node, by the names that the nodes were started with, as {train: 1}."""

    spread: bool = False
    """Workers on as many nodes as there are; false: on as few as can hold them."""

    threads_per_worker: int | None = Field(default=1, ge=1)
    """Torch threads of a CPU worker; null leaves torch's default."""

    wait_for_nodes: bool = False
    """Wait when the cluster's nodes cannot hold the workers now: its autoscaler adds some. false: refuse at once."""

    max_failures: int = Field(default=2, ge=0)
    """How often a dead worker is replaced before the run fails."""

    @property
    def need(self) -> Need:
        """What the workers take of the cluster."""
        each = {"CPU": self.cpus_per_worker}
        if self.use_gpu:
            each["GPU"] = 1.0
        if self.memory_gib_per_worker is not None:
            each["memory"] = self.memory_gib_per_worker * GIB
        if self.accelerator_type is not None:
            # As Ray does it: a node has 1 of it, however many such GPUs.
            each[f"{ACCELERATOR}{self.accelerator_type}"] = 0.001
        return Need(self.min_workers or self.num_workers, each | self.resources_per_worker)

    @property
    def sizes(self) -> range:
        """Numbers of workers that the run may have."""
        return range(self.min_workers or self.num_workers, self.num_workers + 1)

    @model_validator(mode="after")
    def _has_gpus_of_the_type(self) -> Self:
        if self.accelerator_type is not None and not self.use_gpu:
            raise ValueError(f"accelerator_type={self.accelerator_type} needs use_gpu: true")
        return self


class RunConfig(StrictConfig):
    """Name and place of the run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The same name again resumes the run."""

    model_name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name in the registry; each successful run adds a version."""

    storage: Location = Field(default_factory=default_storage, validate_default=True)
    """Root for `runs/`, `models/` and `tokens/`: a folder, on more than one node one that all nodes see; or the URI of
    an object store. Default: `$TUNEYARD_STORAGE`, else `$TUNEYARD_HOME`."""

    resume: bool = True
    """Go on from the last checkpoint of a run of the same name."""

    @property
    def folder(self) -> Path:
        """`storage` as a folder. Raises ConfigError when it is an object store."""
        return _folder(self.storage, "run.storage")


def _folder(location: str, field: str) -> Path:
    if is_uri(location):
        raise ConfigError(f"{field}: {location} is on an object store, where a folder is needed.")
    return Path(location)


class FinetuneConfig(StrictConfig):
    """A finetuning run. Sparse YAML is enough: all but `run`, `model.base` and `data.train` has defaults."""

    run: RunConfig
    model: ModelConfig
    data: DataConfig
    codec: CodecSettings = CodecSettings()
    training: TrainingConfig = TrainingConfig()
    workers: WorkersConfig = WorkersConfig()
    nemo: NemoConfig = NemoConfig()
    deploy: ConfigLocation | None = None
    """Config of a deployment that serves the run's model, started when the model is registered; on a cluster that runs
    already it stays up. null: nothing is served."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        patience = self.training.early_stopping_patience
        if patience is not None and self.data.heldout is None:
            raise ValueError(f"training.early_stopping_patience={patience} needs data.heldout, which is not set")
        self._check_sizes()
        if self.data.heldout is not None and self.data.heldout == self.data.train:
            raise ValueError(f"data.heldout and data.train are the same file: {self.data.train}")
        return self

    def accumulation_at(self, workers: int) -> int:
        """gradient_accumulation_steps by which so many workers take as many rows a step as num_workers do."""
        return self.training.gradient_accumulation_steps * self.workers.num_workers // workers

    def _check_sizes(self) -> None:
        sizes, micro_batches = self.workers.sizes, self.accumulation_at(1)
        if not sizes:
            raise ValueError(
                f"workers.min_workers={self.workers.min_workers} is more than num_workers={self.workers.num_workers}"
            )
        wrong = [size for size in sizes if micro_batches % size]
        if wrong:
            step = math.lcm(*sizes) // math.gcd(math.lcm(*sizes), self.workers.num_workers)
            raise ValueError(
                f"{wrong[0]} workers, which workers.min_workers={self.workers.min_workers} allows, cannot share the "
                f"{micro_batches} batches of a step evenly: set training.gradient_accumulation_steps to a multiple of "
                f"{step}"
            )

    @model_validator(mode="after")
    def _within_the_backend(self) -> Self:
        if self.training.backend != "nemo":
            return self
        training = self.training
        lacking = {
            "data.batching: packed": self.data.batching == "packed",
            "training.lora.experts": training.method == "lora" and training.lora.experts,
            "training.early_stopping_patience": training.early_stopping_patience is not None,
            "training.router_aux_loss_coef over 0": training.router_aux_loss_coef > 0,
            "model.experts_implementation": self.model.experts_implementation is not None,
            "workers.min_workers": self.workers.min_workers is not None,
        }
        asked = [name for name, is_asked in lacking.items() if is_asked]
        for field, location in (("run.storage", self.run.storage), ("model.base", self.model.base)):
            if is_uri(location):
                raise ValueError(
                    f"{field}={location}: NeMo's workers read and write one folder side by side: give a mounted one "
                    "that all nodes see (NFS, FSx, Filestore)"
                )
        if asked:
            raise ValueError(
                f"training.backend=nemo cannot do {', '.join(asked)}. Remove that, or use training.backend=transformers"
            )
        return self
