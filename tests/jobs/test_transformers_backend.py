"""The TrainingBackend contract, for every backend, in one process without Ray; and what only this one does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from jobs.logit_proof import compare_logits
from jobs.training_backend import TokenFiles, create_backend
from jobs.transformers_backend import create_collator, label_logits, load_trainable_model
from tuneyard.dataset import load_chat_dataset
from tuneyard.errors import TrainingError
from tuneyard.finetune_config import FinetuneConfig
from tuneyard.harmony import CodecSettings, HarmonyCodec
from tuneyard.token_store import part_path, write_part
from tuneyard.token_table import TOKEN_COLUMNS, TokenTable, build_token_table, pack_rows

STEPS = 6


class RecordingContext:
    """TrainContext of a single worker that keeps what it is told."""

    rank = 0
    world_size = 1

    def __init__(self, work_dir: Path, resume_from: Path | None = None) -> None:
        self.work_dir = work_dir
        self.resume_from = resume_from
        self.metrics: list[dict[str, float]] = []
        self.checkpoints: list[Path] = []

    def report_metrics(self, metrics: dict[str, float]) -> None:
        self.metrics.append(metrics)

    def report_checkpoint(self, _metrics: dict[str, float], folder: Path) -> None:
        kept = self.work_dir / f"kept-{len(self.checkpoints)}"
        folder.rename(kept)
        self.checkpoints.append(kept)

    @property
    def losses(self) -> list[float]:
        return [m["loss"] for m in self.metrics if "loss" in m]


@pytest.fixture(scope="module")
def rows(tiny_oss: Path) -> Any:
    examples = load_chat_dataset(Path("jobs/data/brindle_train.jsonl")).examples[:24]
    return build_token_table(examples, HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings()), 2048)


@pytest.fixture
def tokens(rows: Any, tmp_path: Path) -> TokenFiles:
    return stored(rows, tmp_path / "tokens")


def stored(table: TokenTable, folder: Path) -> TokenFiles:
    folder.mkdir()
    write_part(table, part_path(folder, 0))
    return TokenFiles(folder, folder)


def config(base: Path, **training: Any) -> FinetuneConfig:
    settings = {"max_steps": STEPS, "learning_rate": 0.01, "checkpoint_every_steps": 3, "eval_every_steps": 3}
    return FinetuneConfig.model_validate(
        {
            "run": {"name": "r", "model_name": "m"},
            "model": {"base": str(base)},
            "data": {"train": "t", "heldout": "h"},
            "training": settings | training,
        }
    )


@pytest.mark.parametrize("backend", ["transformers"])
@pytest.mark.parametrize(
    "method", [{"method": "lora"}, {"method": "lora", "lora": {"experts": True, "rank": 4}}, {"method": "full"}]
)
def test_contract(
    tiny_oss: Path, tokens: TokenFiles, rows: Any, tmp_path: Path, backend: str, method: dict[str, Any]
) -> None:
    asked = config(tiny_oss, backend=backend, **method)
    context = RecordingContext(tmp_path / "one")
    create_backend(asked).train(asked, tokens, context)
    assert [m["step"] for m in context.metrics if "loss" in m] == list(range(1, STEPS + 1))
    assert context.losses[-1] < context.losses[0]
    assert sum("eval_loss" in m for m in context.metrics) == 2
    assert all(m["total_steps"] == STEPS for m in context.metrics)
    assert all(m["tokens_per_s"] > 0 for m in context.metrics if "loss" in m)
    assert len(context.checkpoints) == 2
    # Goes on from the first checkpoint exactly.
    resumed = RecordingContext(tmp_path / "two", resume_from=context.checkpoints[0])
    create_backend(asked).train(asked, tokens, resumed)
    assert resumed.losses == pytest.approx(context.losses[3:], rel=1e-5)
    # Exports the base's names, dtype and shapes, and gives the trained model's own logits.
    target = tmp_path / "export"
    target.mkdir()
    probes = rows.rows.slice(0, 3).select(list(TOKEN_COLUMNS)).to_pylist()
    logits = create_backend(asked).export_hf(asked, context.checkpoints[-1], target, probes)
    exported = transformers.AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    proof = compare_logits(logits, label_logits(exported, probes))
    assert proof["mean_kl"] < 0.01
    assert len(logits[0]) == sum(label != -100 for label in probes[0]["labels"])
    base = transformers.AutoModelForCausalLM.from_pretrained(tiny_oss, dtype=torch.float32).eval()
    assert compare_logits(logits, label_logits(base, probes))["mean_kl"] > 0.05
    assert {n: p.shape for n, p in exported.named_parameters()} == {n: p.shape for n, p in base.named_parameters()}
    written = json.loads((target / "config.json").read_text())
    assert written.get("router_aux_loss_coef") == json.loads((tiny_oss / "config.json").read_text()).get(
        "router_aux_loss_coef"
    )


def test_logits_only_where_labels_are_change_nothing(tiny_oss: Path, rows: Any) -> None:
    model = load_trainable_model(config(tiny_oss, method="full")).eval()
    batch = create_collator(model)(rows.rows.slice(0, 4).to_pylist())
    with torch.inference_mode():
        kept = model(**batch).loss
        whole = model(**{k: batch[k] for k in ("input_ids", "attention_mask", "labels")}).loss
    assert kept.item() == pytest.approx(whole.item(), rel=1e-5)
    assert len(batch["logits_to_keep"]) < batch["input_ids"].shape[1]


def test_the_router_loss_of_the_config_does_not_blow_up_the_loss(tiny_oss: Path, rows: Any) -> None:
    """GPT-OSS's own config asks for 0.9 of it; the default is none, and it is there when asked for."""
    losses = []
    for coefficient in (0.0, 0.9):
        model = load_trainable_model(config(tiny_oss, method="full", router_aux_loss_coef=coefficient)).eval()
        with torch.inference_mode():
            losses.append(model(**create_collator(model)(rows.rows.slice(0, 2).to_pylist())).loss.item())
    plain, weighted = losses
    assert weighted > plain + 0.5


def test_a_loss_that_is_not_finite_ends_the_run_with_the_fix(
    tiny_oss: Path, tokens: TokenFiles, tmp_path: Path
) -> None:
    asked = config(tiny_oss, method="full", learning_rate=1e30, max_grad_norm=1e30)
    with pytest.raises(TrainingError, match=r"The loss is (nan|inf) at step \d.*Lower training.learning_rate"):
        create_backend(asked).train(asked, tokens, RecordingContext(tmp_path / "w"))


def test_early_stopping_stops(tiny_oss: Path, tokens: TokenFiles, tmp_path: Path) -> None:
    asked = config(
        tiny_oss,
        learning_rate=1e-12,
        max_steps=50,
        eval_every_steps=1,
        checkpoint_every_steps=1,
        early_stopping_patience=2,
    )
    context = RecordingContext(tmp_path / "w")
    create_backend(asked).train(asked, tokens, context)
    assert context.metrics[-1]["step"] < 10


def test_compare_logits_sees_a_difference() -> None:
    logits = [np.array([[0.0, 1.0], [2.0, 0.0]], dtype=np.float32)]
    same = compare_logits(logits, logits)
    assert (same["mean_kl"], same["top1_agreement"], same["positions"]) == (0.0, 1.0, 2.0)
    other = compare_logits(logits, [logits[0][:, ::-1]])
    assert other["mean_kl"] > 0.1
    assert other["top1_agreement"] == 0.0


def test_adapters_on_the_last_layers_only(tiny_oss: Path) -> None:
    model = load_trainable_model(config(tiny_oss, lora={"last_layers": 1}))
    last = model.config.num_hidden_layers - 1
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert len(trained) == 8
    assert all(f".layers.{last}." in name for name in trained)


def test_packed_rows_have_the_loss_and_gradients_of_unpacked_ones(tiny_oss: Path, rows: Any) -> None:
    """fp32, live sinks, window 16 and sparse routing: equal to 1e-5, so no token sees another segment."""
    single = rows.rows.slice(0, 6)
    packed = pack_rows(single, max(map(len, single["input_ids"].to_pylist())) * 2)
    assert 1 < packed.num_rows < 6
    results = []
    for table in (single, packed):
        model = load_trainable_model(config(tiny_oss, method="full")).eval()
        assert model.config.sliding_window == 16
        loss = model(**create_collator(model)(table.to_pylist())).loss
        loss.backward()
        results.append((loss.item(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (loss, gradients), (packed_loss, packed_gradients) = results
    assert packed_loss == pytest.approx(loss, rel=1e-5)
    assert gradients.keys() == packed_gradients.keys()
    for name, gradient in gradients.items():
        worst = (gradient - packed_gradients[name]).abs().max().item()
        assert worst <= 1e-5 * max(1.0, gradient.abs().max().item()), name


@pytest.mark.parametrize("batching", ["padded", "grouped", "packed"])
def test_every_way_of_batching_trains(tiny_oss: Path, rows: Any, tmp_path: Path, batching: str) -> None:
    table = TokenTable(pack_rows(rows.rows, 1024), []) if batching == "packed" else rows
    assert table.num_tokens == rows.num_tokens
    asked = config(tiny_oss, method="full")
    asked = asked.model_copy(update={"data": asked.data.model_copy(update={"batching": batching})})
    context = RecordingContext(tmp_path / "run")
    create_backend(asked).train(asked, stored(table, tmp_path / "t"), context)
    assert context.losses[-1] < context.losses[0]
