"""The TrainingBackend contract: what every backend must do, in one process without Ray."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from jobs.training.backend import TokenFiles
from jobs.training.logit_proof import compare_logits
from jobs.workers.backend_factory import create_backend
from tuneyard.chats.dataset import load_chat_dataset
from tuneyard.chats.messages import ChatExample, ChatMessage
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings
from tuneyard.training_data.token_part import write_part
from tuneyard.training_data.token_table import TOKEN_COLUMNS, TokenTable, build_token_table

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
        self.checkpoint_metrics: list[dict[str, float]] = []

    def report_metrics(self, metrics: dict[str, float]) -> None:
        self.metrics.append(metrics)

    def report_checkpoint(self, metrics: dict[str, float], folder: Path) -> None:
        self.checkpoint_metrics.append(metrics)
        kept = self.work_dir / f"kept-{len(self.checkpoints)}"
        folder.rename(kept)
        self.checkpoints.append(kept)

    @property
    def evaluations(self) -> dict[float, float]:
        """Held-out loss by step."""
        return {m["step"]: m["eval_loss"] for m in self.metrics if "eval_loss" in m}

    @property
    def losses(self) -> list[float]:
        return [m["loss"] for m in self.metrics if "loss" in m]


def token_rows(base: Path, chats: int = 24) -> TokenTable:
    """The demo's first chats as tokens."""
    examples = load_chat_dataset(Path("jobs/data/brindle_train.jsonl")).examples[:chats]
    return build_token_table(examples, HarmonyCodec.from_checkpoint(base, CodecSettings()), 2048)


def preference_pairs(chats: int, start: int = 0) -> list[ChatExample]:
    """The demo's chats of one question, each with an answer that avoids it as the rejected one."""
    every = load_chat_dataset(Path("jobs/data/brindle_train.jsonl")).examples
    examples = [example for example in every if len(example.messages) == 3][start : start + chats]
    avoided = ("I am not sure. Please ask somebody else.", "Sorry, that is hard to say. Ask again later.")
    return [
        example.model_copy(update={"rejected": ChatMessage(role="assistant", content=avoided[number % 2])})
        for number, example in enumerate(examples)
    ]


def pair_rows(base: Path, chats: int = 24, start: int = 0) -> TokenTable:
    """preference_pairs as tokens."""
    codec = HarmonyCodec.from_checkpoint(base, CodecSettings())
    return build_token_table(preference_pairs(chats, start), codec, 2048)


def stored(table: TokenTable, folder: Path) -> TokenFiles:
    """The rows as training and held-out data."""
    folder.mkdir()
    write_part([table], folder, 0)
    return TokenFiles(folder, folder)


def backend_config(base: Path, name: str = "r", **training: Any) -> FinetuneConfig:
    """A run of STEPS steps with two checkpoints."""
    settings = {"max_steps": STEPS, "learning_rate": 0.01, "checkpoint_every_steps": 3, "eval_every_steps": 2}
    is_dpo = training.get("objective") == "dpo"
    return FinetuneConfig.model_validate(
        {
            "run": {"name": name, "model_name": "m"},
            "model": {"base": str(base)},
            "data": {"train": "t", "heldout": "h"} | ({"preference": "pairs"} if is_dpo else {}),
            "training": settings | training,
            "nemo": {"pipeline_parallel": 1, "expert_parallel": 1},
        }
    )


def check_contract(config: FinetuneConfig, rows: TokenTable, tmp_path: Path) -> None:
    """Trains, resumes and exports with the backend that `config` names."""
    tokens = stored(rows, tmp_path / "tokens")
    context = RecordingContext(tmp_path / "one")
    create_backend(config).train(config, tokens, context)
    assert [m["step"] for m in context.metrics if "loss" in m] == list(range(1, STEPS + 1))
    assert context.losses[-1] < context.losses[0]
    assert list(context.evaluations) == [2, 4, 6]
    assert all(m["total_steps"] == STEPS for m in context.metrics)
    assert all(m["tokens_per_s"] > 0 for m in context.metrics if "loss" in m)
    assert len(context.checkpoints) == 2
    # A checkpoint has the held-out loss of its own step or none: not that of step 2 at step 3, nor of step 4 at step 6.
    assert context.checkpoint_metrics[0].get("eval_loss") is None
    assert context.checkpoint_metrics[1].get("eval_loss") in (None, context.evaluations[6])
    # Goes on from the first checkpoint exactly.
    resumed = RecordingContext(tmp_path / "two", resume_from=context.checkpoints[0])
    create_backend(config).train(config, tokens, resumed)
    assert resumed.losses == pytest.approx(context.losses[3:], rel=1e-5)
    assert resumed.evaluations == pytest.approx({s: loss for s, loss in context.evaluations.items() if s > 3}, rel=1e-5)
    check_export(config, context.checkpoints[-1], rows, tmp_path / "export")


def check_pair_contract(config: FinetuneConfig, rows: TokenTable, heldout: TokenTable, tmp_path: Path) -> None:
    """Trains on preference pairs until the chosen answers of other pairs win, resumes, and exports."""
    tokens = TokenFiles(stored(rows, tmp_path / "tokens").train, stored(heldout, tmp_path / "heldout").train)
    context = RecordingContext(tmp_path / "one")
    create_backend(config).train(config, tokens, context)
    steps = [m for m in context.metrics if "loss" in m]
    assert [m["step"] for m in steps] == list(range(1, STEPS + 1))
    # Before the first step the model is the base, so each margin is 0 but for rounding.
    assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert steps[0]["reward_margin"] == pytest.approx(0, abs=1e-4)
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.05
    assert steps[-1]["reward_margin"] > 0
    evaluated = [m for m in context.metrics if "eval_loss" in m]
    assert [m["step"] for m in evaluated] == [2, 4, 6]
    assert evaluated[-1]["eval_preference_accuracy"] == 1.0
    assert evaluated[-1]["eval_reward_margin"] > 0
    assert evaluated[-1]["eval_loss"] < math.log(2) - 0.05
    resumed = RecordingContext(tmp_path / "two", resume_from=context.checkpoints[0])
    create_backend(config).train(config, tokens, resumed)
    assert resumed.losses == pytest.approx(context.losses[3:], rel=1e-5)
    assert resumed.evaluations == pytest.approx({s: loss for s, loss in context.evaluations.items() if s > 3}, rel=1e-5)
    check_export(config, context.checkpoints[-1], rows, tmp_path / "export")


def check_export(config: FinetuneConfig, checkpoint: Path, rows: TokenTable, target: Path) -> None:
    """Exports the base's names, dtype and shapes, and gives the trained model's own logits."""
    # Here, because NeMo's environment must have its fixes in place before transformers' models are used.
    import torch
    import transformers

    from jobs.training.label_logits import label_logits

    base_folder = config.model.folder
    target.mkdir()
    probes = rows.rows.slice(0, 3).select(list(TOKEN_COLUMNS)).to_pylist()
    logits = create_backend(config).export_hf(config, checkpoint, target, probes)
    exported = transformers.AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    proof = compare_logits(logits, label_logits(exported, probes))
    assert proof["mean_kl"] < 0.01
    assert len(logits[0]) == sum(label != -100 for label in probes[0]["labels"])
    base = transformers.AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32).eval()
    assert compare_logits(logits, label_logits(base, probes))["mean_kl"] > 0.05
    assert {n: p.shape for n, p in exported.named_parameters()} == {n: p.shape for n, p in base.named_parameters()}
    written = json.loads((target / "config.json").read_text())
    assert written.get("router_aux_loss_coef") == json.loads((base_folder / "config.json").read_text()).get(
        "router_aux_loss_coef"
    )
