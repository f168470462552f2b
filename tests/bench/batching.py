"""Training tokens/s and loss with padded, grouped and packed batches of the same rows, on one CPU core or a GPU."""

from __future__ import annotations

import time
from typing import Any

import datasets
import torch
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader

from jobs.training.collator import create_collator
from jobs.training.row_order import EpochOrder, row_lengths, with_filler
from jobs.training.trainable_model import load_trainable_model
from tests.bench.bases import SMOL, base
from tests.bench.data import long_tailed
from tuneyard.cluster.connection import CHECKOUT
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.config_loading import load_config
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.planning.local_gpus import describe_gpus
from tuneyard.training_data.token_table import IGNORED_LABEL, build_token_table, pack_rows

ROWS, GPU_ROWS, BATCH, CAPACITY = 64, 512, 4, 1024
CONFIG = CHECKOUT / "jobs" / "configs" / "demo_cpu.yaml"


def run() -> dict[str, Any]:
    """By batching mode: tokens/s of forward and backward pass, mean loss per token over all rows, peak GPU memory."""
    gpus = describe_gpus()
    overrides = [f"model.base={base(SMOL)}"]
    if gpus:
        overrides += ["workers.use_gpu=true", "training.precision=bf16"]
    else:
        torch.set_num_threads(1)
    config = load_config(FinetuneConfig, CONFIG, overrides)
    codec = HarmonyCodec.from_checkpoint(config.model.folder, config.codec)
    table = build_token_table(long_tailed(GPU_ROWS if gpus else ROWS), codec, CAPACITY)
    padded = with_filler(datasets.Dataset(table.rows), BATCH)
    packed = datasets.Dataset(pack_rows(table.rows, CAPACITY))
    model = load_trainable_model(config).to("cuda" if gpus else "cpu").train()
    _epoch(model, padded.select(range(BATCH)), EpochOrder(range(BATCH), 1), BATCH)  # warms up
    modes = {
        "padded": (padded, EpochOrder(padded, 1), BATCH),
        "grouped": (padded, EpochOrder(padded, 1, BATCH, row_lengths(padded)), BATCH),
        "packed": (packed, EpochOrder(packed, 1), 1),
    }
    result: dict[str, Any] = {"rows": table.rows.num_rows, "tokens": table.num_tokens, "gpus": gpus}
    for name, (rows, order, batch) in modes.items():
        if gpus:
            torch.cuda.reset_peak_memory_stats()
        seconds, loss = _epoch(model, rows, order, batch)
        result[name] = {"tokens_per_s": table.num_tokens / seconds, "loss": loss}
        if gpus:
            result[name]["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return result | {"fastest": max(modes, key=lambda name: float(result[name]["tokens_per_s"]))}


def _epoch(model: Any, rows: datasets.Dataset, order: EpochOrder, batch: int) -> tuple[float, float]:
    """Runs forward and backward over all rows without changing weights; returns seconds and the mean loss per token."""
    total, labels = 0.0, 0
    started = time.perf_counter()
    for inputs in DataLoader(rows, batch_size=batch, sampler=order, collate_fn=create_collator(model)):
        loss = model(**send_to_device(inputs, model.device)).loss
        loss.backward()
        count = int((inputs["shift_labels"] != IGNORED_LABEL).sum())
        total, labels = total + loss.item() * count, labels + count
        model.zero_grad()
    return time.perf_counter() - started, total / labels
