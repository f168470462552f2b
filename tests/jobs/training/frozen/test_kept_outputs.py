"""The frozen layers' outputs, computed once per row: the losses stay what they are without."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from jobs.training.backend import TokenFiles
from jobs.training.frozen import output_store
from jobs.training.frozen.frozen_layers import FrozenLayers
from jobs.training.trainable_model import load_trainable_model
from jobs.training.transformers_backend import TransformersBackend
from tests.jobs.training.backend_contract import RecordingContext, backend_config, stored, token_rows
from tests.jobs.training.sharding.worker_group import Run, train_in_group
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import ConfigError
from tuneyard.training_data.token_table import TokenTable, pack_rows

CHATS = 7
"""With batches of two, one filler row completes an epoch."""


@pytest.fixture(scope="module")
def rows(tiny_oss: Path) -> TokenTable:
    return token_rows(tiny_oss, chats=CHATS)


@pytest.fixture
def tokens(rows: TokenTable, tmp_path: Path) -> TokenFiles:
    return stored(rows, tmp_path / "tokens")


def _config(base: Path, *, batching: str = "padded", **training: Any) -> FinetuneConfig:
    settings: dict[str, Any] = {"max_steps": 10, "batch_size_per_worker": 2, "lora": {"last_layers": 1, "rank": 4}}
    config = backend_config(base, **(settings | training))
    return config.model_copy(update={"data": config.data.model_copy(update={"batching": batching})})


def _train(config: FinetuneConfig, tokens: TokenFiles, folder: Path, **context: Any) -> RecordingContext:
    recorded = RecordingContext(folder, **context)
    TransformersBackend().train(config, tokens, recorded)
    return recorded


@pytest.mark.parametrize("batching", ["padded", "grouped", "packed"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_losses_are_those_of_a_run_that_keeps_nothing(
    tiny_oss: Path, rows: TokenTable, tmp_path: Path, batching: str, dropout: float
) -> None:
    """Also with dropout in the adapters, which are above the frozen layers."""
    table = TokenTable(pack_rows(rows.rows, 512), []) if batching == "packed" else rows
    tokens = stored(table, tmp_path / "rows")
    lora = {"last_layers": 1, "rank": 4, "dropout": dropout}
    kept, plain = (
        _train(
            _config(tiny_oss, batching=batching, lora=lora, keep_frozen_outputs=keep),
            tokens,
            tmp_path / f"{keep}",
        )
        for keep in (True, False)
    )
    assert kept.losses == pytest.approx(plain.losses, rel=1e-6)
    assert kept.evaluations == pytest.approx(plain.evaluations, rel=1e-6)
    assert len(kept.losses) == 10
    assert kept.losses[-1] < kept.losses[0]
    assert [m.get("tokens_per_s", 0) > 0 for m in kept.metrics] == [m.get("tokens_per_s", 0) > 0 for m in plain.metrics]


def test_losses_do_not_depend_on_what_was_kept(
    tiny_oss: Path, tokens: TokenFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bitwise: with no room for any row, with room for some, and resumed with an empty file."""
    config = _config(tiny_oss, keep_frozen_outputs=True)
    whole = _train(config, tokens, tmp_path / "whole")
    for limit_bytes in (0, 100_000):
        monkeypatch.setattr(output_store, "MAX_BYTES", limit_bytes)
        assert _train(config, tokens, tmp_path / f"limit-{limit_bytes}").losses == whole.losses
    resumed = _train(config, tokens, tmp_path / "resumed", resume_from=whole.checkpoints[1])
    assert resumed.losses == whole.losses[6:]


def test_workers_share_what_they_computed(tiny_oss: Path, rows: TokenTable, tmp_path: Path) -> None:
    """The losses of two workers are the same with and without; rows change workers from epoch to epoch."""
    tokens = stored(rows, tmp_path / "rows")
    sections = _config(tiny_oss, batch_size_per_worker=1).model_dump(mode="json")
    sections["workers"] |= {"num_workers": 2}
    runs = []
    for keep in (True, False):
        sections["training"]["keep_frozen_outputs"] = keep
        folder = tmp_path / f"run-{keep}"
        folder.mkdir()
        runs.append(Run(FinetuneConfig.model_validate(sections), tokens, folder))
    train_in_group(2, runs)
    kept, plain = ([step["loss"] for step in run.steps] for run in runs)
    assert kept == pytest.approx(plain, rel=1e-6)
    assert len(kept) == 10


@pytest.mark.parametrize("keep", [None, True])
def test_each_row_passes_the_frozen_layers_once(
    tiny_oss: Path, tokens: TokenFiles, tmp_path: Path, keep: bool | None
) -> None:
    """Training and held-out rows are numbered apart, though this run's are the same. Without, each pass repeats."""
    passes = []

    def load(config: FinetuneConfig) -> Any:
        model = load_trainable_model(config)
        model.get_base_model().model.layers[0].register_forward_hook(lambda *_: passes.append(1))
        return model

    backend = TransformersBackend(load)
    backend.train(_config(tiny_oss, keep_frozen_outputs=keep), tokens, RecordingContext(tmp_path / "kept"))
    filled = math.ceil(CHATS / 2) * 2
    assert len(passes) == 2 * filled
    passes.clear()
    one_epoch = _config(tiny_oss, max_steps=filled // 2)
    backend.train(one_epoch, tokens, RecordingContext(tmp_path / "short"))
    evaluations = 2 * (filled // 2)
    assert len(passes) == filled // 2 + evaluations, "one epoch: nothing is kept, each batch is one pass"


def test_layers_are_not_taken_where_their_outputs_change(tiny_oss: Path) -> None:
    def detached(model: Any) -> FrozenLayers | None:
        layers = len(model.get_base_model().model.layers)
        frozen = FrozenLayers.detach(model)
        assert len(model.get_base_model().model.layers) == layers
        return frozen

    config = _config(tiny_oss)
    found = detached(load_trainable_model(config))
    assert found is not None
    assert found.count == len(load_trainable_model(config).get_base_model().model.layers) - 1
    with_dropout = load_trainable_model(config)
    with_dropout.config.attention_dropout = 0.1
    assert detached(with_dropout) is None
    with_embeddings = load_trainable_model(config)
    with_embeddings.get_input_embeddings().weight.requires_grad_(True)
    assert detached(with_embeddings) is None
    assert detached(load_trainable_model(_config(tiny_oss, lora={"rank": 4}))) is None


def test_a_run_without_frozen_layers_says_what_to_change(tiny_oss: Path, tokens: TokenFiles, tmp_path: Path) -> None:
    config = _config(tiny_oss, keep_frozen_outputs=True, lora={"last_layers": 99, "rank": 4})
    with pytest.raises(ConfigError, match=r"no layer is below training\.lora\.last_layers=99.*Lower last_layers"):
        _train(config, tokens, tmp_path / "run")
