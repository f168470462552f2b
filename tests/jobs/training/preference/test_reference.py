"""The reference is the base's, is computed once per run, and is kept by its checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from safetensors.torch import load_file

from jobs.training.backend import TokenFiles
from jobs.training.model_loading import load_dequantised
from jobs.training.preference.reference import FILE_NAME
from jobs.training.trainable_model import load_trainable_model
from jobs.training.transformers_backend import TransformersBackend
from tests.jobs.training.backend_contract import RecordingContext, backend_config, pair_rows, stored
from tests.jobs.training.sharding.worker_group import Run, sharded_config, train_in_group
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.training_data.token_store import open_token_rows
from tuneyard.training_data.token_table import IGNORED_LABEL, split_pairs

PAIRS, HELDOUT_PAIRS = 7, 3
"""With batches of two, filler rows complete an epoch and an evaluation."""


@pytest.fixture(scope="module")
def tokens(tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> TokenFiles:
    folder = tmp_path_factory.mktemp("tokens")
    train = stored(pair_rows(tiny_oss, PAIRS), folder / "train").train
    return TokenFiles(train, stored(pair_rows(tiny_oss, HELDOUT_PAIRS, start=50), folder / "heldout").train)


def config_of(base: Path, **training: Any) -> FinetuneConfig:
    settings: dict[str, Any] = {"objective": "dpo", "batch_size_per_worker": 2, "max_steps": 6}
    config = backend_config(base, **(settings | training))
    return config.model_copy(update={"data": config.data.model_copy(update={"batching": "padded"})})


def train(config: FinetuneConfig, tokens: TokenFiles, folder: Path, **context: Any) -> RecordingContext:
    recorded = RecordingContext(folder, **context)
    TransformersBackend().train(config, tokens, recorded)
    return recorded


def plain_log_probs(base: Path, folder: Path) -> list[list[float]]:
    """The base's log-probabilities of both answers, one plain row at a time."""
    model = load_dequantised(base, torch.float32, on_gpu=False).eval()
    result = []
    for row in split_pairs(open_token_rows(folder).data.table).to_pylist():
        with torch.no_grad():
            log_probs = model(torch.tensor([row["input_ids"]])).logits[0].double().log_softmax(-1)
        labels = enumerate(row["labels"])
        result.append(sum(float(log_probs[at - 1, label]) for at, label in labels if label != IGNORED_LABEL))
    return [list(pair) for pair in zip(result[::2], result[1::2], strict=True)]


@pytest.mark.parametrize("training", [{"method": "full"}, {"method": "lora", "lora": {"rank": 4, "dropout": 0.3}}])
def test_it_is_the_bases_own(tiny_oss: Path, tokens: TokenFiles, tmp_path: Path, training: dict[str, Any]) -> None:
    """Also of a run whose adapters have dropout, and in each of its checkpoints."""
    run = train(config_of(tiny_oss, **training), tokens, tmp_path / "run")
    assert tokens.heldout is not None
    expected = {
        name: plain_log_probs(tiny_oss, f) for name, f in (("train", tokens.train), ("heldout", tokens.heldout))
    }
    assert len(run.checkpoints) == 2
    for checkpoint in run.checkpoints:
        found = load_file(checkpoint / FILE_NAME)
        assert found.keys() == expected.keys()
        for name, log_probs in found.items():
            assert torch.allclose(log_probs, torch.tensor(expected[name]), atol=1e-3, rtol=1e-5)


def test_it_is_computed_once(tiny_oss: Path, tokens: TokenFiles, tmp_path: Path) -> None:
    """A resumed run passes each pair no more often than it trains and evaluates."""
    passes = []

    def load(config: FinetuneConfig) -> Any:
        model = load_trainable_model(config)
        model.register_forward_pre_hook(lambda *_: passes.append(1))
        return model

    config, backend = config_of(tiny_oss), TransformersBackend(load)
    batches = {"train": 4, "heldout": 2}
    run = RecordingContext(tmp_path / "run")
    backend.train(config, tokens, run)
    evaluations = 3
    assert len(passes) == batches["train"] + batches["heldout"] + 6 + evaluations * batches["heldout"]
    passes.clear()
    resumed = RecordingContext(tmp_path / "resumed", resume_from=run.checkpoints[0])
    backend.train(config, tokens, resumed)
    assert len(passes) == 3 + 2 * batches["heldout"]
    assert resumed.losses == run.losses[3:]
    assert resumed.evaluations == {step: loss for step, loss in run.evaluations.items() if step > 3}
    # A checkpoint without the reference, or with that of other pairs, is no obstacle.
    (run.checkpoints[0] / FILE_NAME).unlink()
    again = RecordingContext(tmp_path / "again", resume_from=run.checkpoints[0])
    backend.train(config, tokens, again)
    assert again.losses == pytest.approx(run.losses[3:], rel=1e-5)


def test_the_loss_of_a_step_does_not_depend_on_its_batches(tiny_oss: Path, tokens: TokenFiles, tmp_path: Path) -> None:
    """Eight rows, of which one is filler, in one batch and in four."""
    runs = [
        train(
            config_of(tiny_oss, method="full", batch_size_per_worker=8 // parts, gradient_accumulation_steps=parts),
            tokens,
            tmp_path / f"{parts}",
        )
        for parts in (1, 4)
    ]
    one, four = ([m for m in run.metrics if "loss" in m] for run in runs)
    for name in ("loss", "grad_norm", "reward_margin", "preference_accuracy"):
        # The first step has the learning rate 0, so the margins of the first two are rounding.
        assert [m[name] for m in four[2:]] == pytest.approx([m[name] for m in one[2:]], rel=1e-3), name
    assert four[0]["loss"] == pytest.approx(one[0]["loss"], rel=1e-5)
    assert runs[0].evaluations == pytest.approx(runs[1].evaluations, rel=1e-4)


@pytest.mark.parametrize("batching", ["padded", "grouped"])
def test_kept_outputs_change_no_loss(tiny_oss: Path, tokens: TokenFiles, tmp_path: Path, batching: str) -> None:
    runs = []
    for keep in (True, False):
        config = config_of(tiny_oss, lora={"last_layers": 1, "rank": 4}, keep_frozen_outputs=keep)
        config = config.model_copy(update={"data": config.data.model_copy(update={"batching": batching})})
        runs.append(train(config, tokens, tmp_path / f"{keep}"))
    kept, plain = runs
    assert kept.losses == pytest.approx(plain.losses, rel=1e-5)
    assert kept.evaluations == pytest.approx(plain.evaluations, rel=1e-5)


@pytest.mark.parametrize("sharding", ["none", "fsdp2"])
def test_workers_give_the_losses_of_one(tiny_oss: Path, tokens: TokenFiles, tmp_path: Path, sharding: str) -> None:
    """Three pairs and one of filler per worker; resumed on one worker, which takes the reference of all."""
    config = sharded_config(config_of(tiny_oss, method="full"), sharding)
    for name in ("two", "one", "resumed"):
        (tmp_path / name).mkdir()
    two = Run(config, tokens, tmp_path / "two")
    train_in_group(2, [two])
    one, resumed = Run(config, tokens, tmp_path / "one"), Run(config, tokens, tmp_path / "resumed", two.checkpoint(0))
    train_in_group(1, [one, resumed])
    names = ("loss", "grad_norm", "reward_margin", "preference_accuracy")
    for name in names:
        assert [m[name] for m in two.steps[2:]] == pytest.approx([m[name] for m in one.steps[2:]], rel=2e-3), name
    assert two.evaluations == pytest.approx(one.evaluations, rel=1e-4)
    assert [m["loss"] for m in resumed.steps] == pytest.approx([m["loss"] for m in two.steps[3:]], rel=1e-4)


def test_rows_are_stored_as_pairs(tokens: TokenFiles) -> None:
    rows: datasets.Dataset = open_token_rows(tokens.train)
    assert len(rows) == PAIRS
    assert {max(row["segment_ids"]) for row in rows.to_list()} == {1}
