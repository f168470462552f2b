"""One run of the transformers backend on a model that is only in memory: tokens/s and peak memory."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.training.backend import TokenFiles
from jobs.training.trainable_model import prepare_for_training, training_attention
from jobs.training.transformers_backend import TransformersBackend
from tests.gpu.random_gpt_oss import free_gpu, peak_gib
from tests.jobs.training.backend_contract import RecordingContext, stored
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import TrainingError
from tuneyard.training_data.token_table import IGNORED_LABEL, SCHEMA, TokenTable

VOCABULARY = 199_998
"""Random tokens are below o200k's special tokens."""


def random_rows(lengths: list[int], seed: int = 0) -> pa.Table:
    """Rows of random tokens by length; the second half of each row has labels, as the answer of a chat has."""
    random = np.random.default_rng(seed)
    ids = [random.integers(0, VOCABULARY, length).tolist() for length in lengths]
    columns = {
        "input_ids": ids,
        "labels": [[IGNORED_LABEL] * (len(row) // 2) + row[len(row) // 2 :] for row in ids],
        "position_ids": [list(range(len(row))) for row in ids],
        "segment_ids": [[0] * len(row) for row in ids],
        "source": ["random"] * len(ids),
    }
    return pa.table(columns, schema=SCHEMA)


def gpu_config(**sections: Any) -> FinetuneConfig:
    """A run on one GPU with defaults, but for what `sections` say; the base's folder is never read."""
    given: dict[str, Any] = {
        "run": {"name": "gpu", "model_name": "m"},
        "model": {"base": "in-memory"},
        "data": {"train": "t"},
        # No checkpoint before the end.
        "training": {"checkpoint_every_steps": 10_000, "warmup_ratio": 0},
        "workers": {"use_gpu": True},
    }
    return FinetuneConfig.model_validate(
        {name: given.get(name, {}) | sections.get(name, {}) for name in given | sections}
    )


class LastStepError(Exception):
    """Ends a run behind its last step: its checkpoint, of up to 30 GB, is not wanted."""


class TimedContext(RecordingContext):
    """Notes when each step was reported, and raises LastStepError for the last."""

    def __init__(self, work_dir: Path) -> None:
        super().__init__(work_dir)
        self.times: list[float] = []

    def report_metrics(self, metrics: dict[str, float]) -> None:
        super().report_metrics(metrics)
        self.times.append(time.perf_counter())
        if metrics["step"] == metrics["total_steps"]:
            raise LastStepError


def train_in_memory(
    config: FinetuneConfig, rows: pa.Table, folder: Path, build: Callable[[str, str | None], Any]
) -> dict[str, Any]:
    """Trains through the backend: losses, tokens/s of the later half of all epochs without padding, peak memory.

    `build` makes the model from the names of its attention and its experts' implementation.
    """
    import torch

    free_gpu()
    before = round(torch.cuda.memory_allocated() / 2**30, 2)

    count: dict[str, int] = {}

    def load(run: FinetuneConfig) -> Any:
        model = prepare_for_training(build(training_attention(run), run.model.experts_implementation), run)
        count["all"] = sum(weight.numel() for weight in model.parameters())
        count["trained"] = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        return model

    context = TimedContext(folder / "work")
    tokens = stored(TokenTable(rows, []), folder / "tokens")
    with contextlib.suppress(LastStepError):
        TransformersBackend(load).train(config, TokenFiles(tokens.train, None), context)
    epochs = int(config.training.epochs)
    measured = epochs // 2
    steps = len(context.times) // epochs * measured
    seconds = context.times[-1] - context.times[-1 - steps]
    return {
        "losses": [round(loss, 4) for loss in context.losses],
        "tokens_per_s": round(measured * pc.sum(pc.list_value_length(rows["input_ids"])).as_py() / seconds, 1),
        "seconds_per_step": round(seconds / steps, 4),
        "seconds_by_step": [round(later - sooner, 3) for sooner, later in itertools.pairwise(context.times)],
        "parameters": count["all"],
        "trained_parameters": count["trained"],
        "allocated_before_gib": before,
        **peak_gib(),
    }


def out_of_memory_as_result(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of `run`, or what it took when the GPU's memory ended: then that is the result."""
    import torch

    try:
        return run()
    except (torch.OutOfMemoryError, TrainingError) as e:
        if not isinstance(e.__cause__ or e, torch.OutOfMemoryError):
            raise
        message = str(e).split("\n")[0][:200]
    # Outside of the handler, so that the traceback's frames hold no tensors any more.
    free_gpu()
    return {"out_of_memory": message}
