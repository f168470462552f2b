"""Rows in the shapes of public datasets become exactly the text beside them, with every unused value named.

Each file of `public_datasets/` holds a few invented rows with the columns and the nesting of a dataset; the .txt file
beside it is what the model is trained on. Between ⟦ and ⟧ stand the tokens with loss.
"""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from tuneyard.chats.row_reader import ChatRowReader
from tuneyard.chats.row_settings import RowSettings
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings
from tuneyard.training_data.row_samples import render_rows

FOLDER = Path(__file__).with_name("public_datasets")
CONVERTED: dict[str, Any] = {"text_markup": "convert"}
SETTINGS: dict[str, dict[str, Any]] = {
    "hermes": CONVERTED,
    "mixture_of_thoughts": CONVERTED,
    "openthoughts_114k": CONVERTED,
    "openthoughts3": CONVERTED,
    "nemotron_post_training_v1": CONVERTED,
    "llama_nemotron_post_training": CONVERTED,
    "squad_v2": {"unanswerable_answer": "The text does not say."},
    "dpo_intel_orca": {"preference": "chosen"},
    "dpo_messages": {"preference": "rejected"},
    "hh_rlhf": {"preference": "chosen"},
    "kto": {"preference": "chosen"},
    "openai_preference": {"preference": "pairs"},
    "trl_preferences": {"preference": "pairs"},
    "llama_factory_preferences": {"preference": "pairs"},
    "ultrafeedback": {"preference": "chosen"},
    "ultrafeedback_binarized": {"preference": "rejected"},
}
"""What must be set for the datasets that need a decision."""

_SYSTEM_MESSAGE = re.compile(r"^<\|start\|>system<\|message\|>.*?<\|end\|>", re.DOTALL)


@pytest.fixture(scope="module")
def codec(tiny_oss: Path) -> HarmonyCodec:
    return HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings(conversation_date="2026-01-01"))


def rendered(path: Path, settings: RowSettings, codec: HarmonyCodec) -> str:
    """Title and format, then each row's samples without harmony's system message, and its problems."""
    reader = ChatRowReader(str(path), settings)
    rows = []
    for row in reader:
        samples = [] if row.example is None else chain.from_iterable(render_rows(codec, row.example))
        lines = [f"== {row.where}"]
        for sample in samples:
            start = sample.loss_mask.index(True)
            prompt, answer = (codec.render_text(ids) for ids in (sample.token_ids[:start], sample.token_ids[start:]))
            assert all(sample.loss_mask[start:])
            lines.append(f"{_SYSTEM_MESSAGE.sub('', prompt)}⟦{answer}⟧")
        lines += [f"{settings.severity_of(p.kind)} {p.kind}: {p.text}" for p in row.problems]
        rows.append("\n".join(lines))
    return "\n".join([f"{reader.title} ({reader.format})", *rows]) + "\n"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.jsonl")), ids=lambda path: path.stem)
def test_rows_become_the_text_beside_them(path: Path, codec: HarmonyCodec) -> None:
    settings = RowSettings.model_validate(SETTINGS.get(path.stem, {}))
    assert rendered(path, settings, codec) == path.with_suffix(".txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("hermes", "text_markup"),
        ("openthoughts_114k", "text_markup"),
        ("mixture_of_thoughts", "text_markup"),
        ("dpo_intel_orca", "preference_pair"),
        ("kto", "preference_pair"),
        ("openai_preference", "preference_pair"),
        ("trl_preferences", "preference_pair"),
        ("ultrafeedback", "preference_pair"),
        ("ultrafeedback_binarized", "preference_pair"),
        ("squad_v2", "unanswerable"),
    ],
)
def test_a_decision_is_asked_for(name: str, kind: str) -> None:
    problems = [problem for row in ChatRowReader(str(FOLDER / f"{name}.jsonl")) for problem in row.problems]
    assert kind in {problem.kind for problem in problems}
    assert RowSettings().severity_of(kind) == "error"
