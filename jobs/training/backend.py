"""TrainingBackend, the protocol of every training engine, and TrainContext, what a worker gives to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tuneyard.configs.finetune import FinetuneConfig

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class TokenFiles:
    """Folders of token stores (tuneyard.training_data.token_store) that this worker can read as local files.

    `heldout` is None when the run has no held-out data.
    """

    train: Path
    heldout: Path | None


class TrainContext(Protocol):
    """The worker that a backend runs in: its rank, its folders, and where it reports to.

    `jobs.workers.ray_train_context` implements it on Ray Train. A backend needs nothing else of Ray, so it also runs
    under plain torchrun.
    """

    @property
    def rank(self) -> int:
        """This worker's rank in the process group, from 0."""
        ...

    @property
    def world_size(self) -> int:
        """The number of workers in the process group."""
        ...

    @property
    def work_dir(self) -> Path:
        """A scratch folder of this worker alone. It is deleted when the worker ends."""
        ...

    @property
    def resume_from(self) -> Path | None:
        """The checkpoint that was reported last, as a local folder; None on a fresh start.

        The folder is valid until the first call of report_checkpoint.
        """
        ...

    def report_metrics(self, metrics: dict[str, float]) -> None:
        """Sends metrics to the driver. Only rank 0 calls it.

        It is cheap and waits for no other worker. If sending fails, the metrics are lost and training continues.
        """
        ...

    def report_checkpoint(self, metrics: dict[str, float], folder: Path) -> None:
        """Persists `folder` as a checkpoint and returns when it is stored.

        Every rank must call it, each with a folder of the files that it holds; the folders are merged.
        """
        ...


class TrainingBackend(Protocol):
    """Trains on tokens and exports to Hugging Face format. A backend never sees a chat.

    `train` runs in every worker of a process group that already exists. It reports metrics named step, total_steps,
    epoch, loss, grad_norm, learning_rate, tokens_per_s and eval_loss; on preference pairs (`training.objective: dpo`,
    where each row of the tokens has two segments) also reward_margin and preference_accuracy, and both with eval_. It
    reports a checkpoint with optimizer state as often as the config says and at the end. When `context.resume_from` is
    set, it continues exactly from that checkpoint: same rows, same losses. It returns when training is complete, and
    raises TrainingError when the loss is not finite.

    `export_hf` runs later, in one process, perhaps on another node. It writes config, tokenizer and weights into the
    existing folder `target`: in the base's dtype, under the base's tensor names, with adapters merged in fp32. It
    writes no manifest; the caller does. It returns the trained model's own logits, computed before merging: one
    float32 array [positions, vocabulary] per probe row, at the positions that predict labelled tokens. A probe row
    holds all of token_table.TOKEN_COLUMNS. `checkpoint` is a folder that `train` reported.

    `export_adapter` is called in its place for a run with `training.method: lora`. It writes PEFT's adapter_config.json
    and adapter_model.safetensors, with the adapters as they were trained, for the base in Hugging Face format.
    """

    def train(self, config: FinetuneConfig, tokens: TokenFiles, context: TrainContext) -> None: ...

    def export_hf(
        self, config: FinetuneConfig, checkpoint: Path, target: Path, probe_rows: list[dict[str, list[int]]]
    ) -> list[np.ndarray]: ...

    def export_adapter(
        self, config: FinetuneConfig, checkpoint: Path, target: Path, probe_rows: list[dict[str, list[int]]]
    ) -> list[np.ndarray]: ...
