"""A trained model itself prefers the preferred answers of pairs that it never saw, which its base does by chance."""

from __future__ import annotations

import random
import re
from pathlib import Path

import torch

from jobs.training.backend import TokenFiles
from jobs.training.label_logits import label_logits
from jobs.training.model_loading import load_dequantised
from jobs.training.preference.dpo_loss import label_log_probs
from jobs.workers.backend_factory import create_backend
from tests.jobs.training.backend_contract import RecordingContext, backend_config, stored
from tuneyard.chats.messages import ChatExample, ChatMessage
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings
from tuneyard.training_data.token_table import IGNORED_LABEL, TokenTable, build_token_table, split_pairs


def words_of(codec: HarmonyCodec) -> tuple[list[str], list[str]]:
    """Two sets of words of one token each, of which neither is likelier than the other for random weights."""
    data = Path("jobs/data/brindle_train.jsonl").read_text(encoding="utf-8")
    words = sorted(set(re.findall(r"(?<= )[a-z]{3,}(?= )", data)))
    single = [word for word in words if len(codec.encode_text(f" {word}")) == 1]
    return single[:32:2], single[1:32:2]


def pairs(count: int, seed: int, codec: HarmonyCodec) -> TokenTable:
    """Answers of four words of one set, and of the other: so many that hardly one occurs twice."""
    drawn = random.Random(seed)
    preferred, others = words_of(codec)
    examples = [
        ChatExample(
            messages=(
                ChatMessage(role="user", content=f"Question {drawn.randrange(10**6)}?"),
                ChatMessage(role="assistant", content=" " + " ".join(drawn.choices(preferred, k=4))),
            ),
            rejected=ChatMessage(role="assistant", content=" " + " ".join(drawn.choices(others, k=4))),
        )
        for _ in range(count)
    ]
    return build_token_table(examples, codec, 512)


def share_of_wins(checkpoint: Path, table: TokenTable) -> float:
    """How often the checkpoint, loaded by itself, gives the preferred answer the higher probability."""
    model = load_dequantised(checkpoint, torch.float32, on_gpu=False).eval()
    log_probs = []
    for row in split_pairs(table.rows).to_pylist():
        (logits,) = label_logits(model, [row])
        labels = torch.tensor([[label for label in row["labels"] if label != IGNORED_LABEL]])
        log_probs.append(label_log_probs(torch.tensor(logits)[None], labels).item())
    wins = [chosen > rejected for chosen, rejected in zip(log_probs[::2], log_probs[1::2], strict=True)]
    return sum(wins) / len(wins)


def test_preferred_answers_win_after_training(tiny_oss: Path, tmp_path: Path) -> None:
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    train, heldout = pairs(48, 1, codec), pairs(32, 2, codec)
    before = share_of_wins(tiny_oss, heldout)
    assert 0.2 < before < 0.8
    config = backend_config(tiny_oss, objective="dpo", max_steps=24, checkpoint_every_steps=24, eval_every_steps=12)
    context = RecordingContext(tmp_path / "run")
    tokens = TokenFiles(stored(train, tmp_path / "train").train, stored(heldout, tmp_path / "heldout").train)
    create_backend(config).train(config, tokens, context)
    (tmp_path / "export").mkdir()
    create_backend(config).export_hf(config, context.checkpoints[-1], tmp_path / "export", [])
    assert share_of_wins(tmp_path / "export", heldout) > 0.95
    last = [m for m in context.metrics if "eval_loss" in m][-1]
    assert last["eval_preference_accuracy"] > 0.95
