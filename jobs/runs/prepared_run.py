"""PreparedRun: the validated and rendered inputs of a run, with their fingerprints."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.harmony.parity_rows import ParityRow
from tuneyard.planning.training.host_memory import HostMemory
from tuneyard.planning.training.memory_plan import TrainingMemory
from tuneyard.planning.training.nemo_memory import NemoMemory
from tuneyard.training_data.dataset_review import ProblemCounts
from tuneyard.training_data.token_store import TokenStore


@dataclass(frozen=True, slots=True)
class CheckedDataset:
    """A dataset without errors. `counts` says what was found, `dropped` holds the numbers of the rows left out.

    `instructions` is the system message that all its chats begin with; None if they differ.
    """

    rows: int
    fingerprint: str
    counts: ProblemCounts
    dropped: frozenset[int]
    instructions: str | None


@dataclass(frozen=True, slots=True)
class PreparedData:
    """The data of a run: checked datasets, their tokens, and what renders them."""

    train: CheckedDataset
    heldout: CheckedDataset | None
    train_tokens: TokenStore
    heldout_tokens: TokenStore | None
    codec_fingerprint: str
    parity_rows: tuple[ParityRow, ...]

    @property
    def dataset_fingerprint(self) -> str:
        """sha256 over the examples of the training and the held-out data."""
        both = self.train.fingerprint + (self.heldout.fingerprint if self.heldout else "")
        return hashlib.sha256(both.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class PreparedRun(PreparedData):
    """The inputs of a run: its data, and the digest of its base."""

    base_digest: str
    memory: TrainingMemory | NemoMemory | None
    """GPU memory of a worker, as planned; None for CPUs."""
    host_memory: HostMemory
    """Main memory of the workers and of the export, as planned."""

    def inputs_fingerprint(self, config: FinetuneConfig) -> str:
        """sha256 over everything that decides the result: data, codec, base and training settings.

        A run resumes only with the same fingerprint.
        """
        facts = {
            "dataset": self.dataset_fingerprint,
            "codec": self.codec_fingerprint,
            "base": self.base_digest,
            # Gradient checkpointing and kept outputs change memory and time, not the result. Sharding changes the form
            # of checkpoints. "none" and "supervised" are left out, for runs of versions without them.
            "training": config.training.model_dump(
                mode="json", exclude={"gradient_checkpointing", "keep_frozen_outputs", "sharding", "objective", "dpo"}
            )
            | {"precision": config.precision}
            | ({"objective": "dpo", "beta": config.training.dpo.beta} if config.training.objective == "dpo" else {})
            | ({"sharding": "fsdp2"} if config.training.sharding == "fsdp2" else {}),
            "nemo": config.nemo.model_dump(mode="json") if config.training.backend == "nemo" else None,
            "max_length": config.data.max_length,
            "batching": config.data.batching,
            "train_on_reasoning": config.data.train_on_reasoning,
            "num_workers": config.workers.num_workers,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
