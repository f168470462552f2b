"""The lines that a run prints about its data: rows, tokens, notes, and rows that were left out."""

from __future__ import annotations

from collections import Counter

from jobs.runs.prepared_run import CheckedDataset, PreparedRun
from tuneyard.chats.instructions import instructions_advice
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.wording import count_of, first_of
from tuneyard.planning.training.nemo_memory_checks import memory_in_words
from tuneyard.planning.training.node_memory import describe_host
from tuneyard.training_data.token_store import TokenStore

MAX_NAMED_ROWS = 5


def data_summary(prepared: PreparedRun, config: FinetuneConfig) -> list[str]:
    """The summary of the prepared data, one line of text per entry."""
    tokens = prepared.train_tokens
    heldout = f", {prepared.heldout.rows} held out" if prepared.heldout else ""
    rows = "packs of training rows" if config.data.batching == "packed" else "training rows"
    examples = "preference pairs" if config.training.objective == "dpo" else "chats"
    return [
        f"{prepared.train.rows} {examples}{heldout}; {tokens.rows} {rows}, {tokens.tokens} tokens, "
        f"{config.data.batching}",
        *([] if prepared.train.instructions is None else [instructions_advice(prepared.train.instructions)]),
        *_dataset_lines("training", prepared.train, tokens, config),
        *_dataset_lines("held-out", prepared.heldout, prepared.heldout_tokens, config),
        *_device_lines(prepared, config),
    ]


def _device_lines(prepared: PreparedRun, config: FinetuneConfig) -> list[str]:
    """Precision and memory, where a GPU decides their defaults."""
    if not config.workers.use_gpu:
        return []
    is_nemo = config.training.backend == "nemo"
    checkpointing = " with gradient checkpointing" if config.uses_gradient_checkpointing and not is_nemo else ""
    line = f"trains on GPUs in {config.precision}"
    if prepared.memory is None:
        return [line]
    planned = memory_in_words(prepared.memory)
    return [f"{line}{checkpointing}; {planned}. {describe_host(prepared.host_memory)}"]


def _dataset_lines(
    name: str, dataset: CheckedDataset | None, store: TokenStore | None, config: FinetuneConfig
) -> list[str]:
    lines = []
    if dataset is not None:
        for severity in ("warning", "note"):
            if found := dataset.counts.of(severity):
                lines.append(
                    f"{severity}s on the {name} data: {_counted(found)}. To see the rows: tuneyard data validate"
                )
        if dropped := dataset.counts.dropped:
            lines.append(f"left out {count_of(dropped.total(), f'{name} chat')} by name: {_counted(dropped)}")
    if store is not None and store.too_long:
        names = first_of(store.too_long_named, MAX_NAMED_ROWS, store.too_long)
        count = count_of(store.too_long, f"{name} row")
        lines.append(f"left out {count} longer than data.max_length={config.data.max_length}: {names}")
    return lines


def _counted(kinds: Counter[str]) -> str:
    return ", ".join(f"{count:,} × {kind}" for kind, count in kinds.most_common())
