"""TrainingBackend: the contract of every training engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tuneyard.configs.finetune import FinetuneConfig

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class TokenFiles:
    """Folders of token stores (tuneyard.training_data.token_store), on storage that every worker sees."""

    train: Path
    heldout: Path | None


class TrainContext(Protocol):
    """Where a worker stands, and whom it tells. Ray Train provides one; so does plain torchrun."""

    @property
    def rank(self) -> int: ...
    @property
    def world_size(self) -> int: ...
    @property
    def work_dir(self) -> Path:
        """A folder of this worker's own, for files that may vanish with it."""
        ...

    @property
    def resume_from(self) -> Path | None:
        """The last reported checkpoint, as a local folder until report_checkpoint; None on a fresh start."""
        ...

    def report_metrics(self, metrics: dict[str, float]) -> None:
        """Tells the driver about progress. Only rank 0's calls count; cheap, waits for no other worker, and a failure
        costs only the progress.
        """
        ...

    def report_checkpoint(self, metrics: dict[str, float], folder: Path) -> None:
        """Persists a folder. Every rank must call it, each with what it holds; the folders are merged."""
        ...


class TrainingBackend(Protocol):
    """Trains on tokens and exports to Hugging Face format. It never sees a chat.

    `train` runs in every worker of a process group that already exists. It reports metrics named
    step, total_steps, epoch, loss, grad_norm, learning_rate, tokens_per_s, eval_loss; reports a
    checkpoint (with optimizer state) as often as the config says and at the end; and goes on
    exactly from `context.resume_from` when that is set. It returns when training is complete and
    raises TrainingError on a non-finite loss.

    `export_hf` runs in one process, later, perhaps on another node. It writes config, tokenizer
    and weights in the base's dtype under the base's tensor names into the existing folder
    `target`, adapters merged in fp32, and returns the trained model's own fp32 logits, taken
    before merging: one float32 array [positions, vocabulary] per probe row (all of
    token_table.TOKEN_COLUMNS), at the positions that predict labelled tokens. It leaves the manifest to the caller.
    """

    def train(self, config: FinetuneConfig, tokens: TokenFiles, context: TrainContext) -> None: ...

    def export_hf(
        self, config: FinetuneConfig, checkpoint: Path, target: Path, probe_rows: list[dict[str, list[int]]]
    ) -> list[np.ndarray]: ...
