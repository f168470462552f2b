"""The template of an export renders the prompts in the manifest."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from jobs.checkpoints.gguf.template_proof import check_template
from tests.chat_prompts import JINJA_PROMPTS
from tuneyard.core.errors import CheckpointError
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.parity_rows import ParityRow
from tuneyard.harmony.settings import CodecSettings


def parity_rows(codec: HarmonyCodec, today: str) -> list[ParityRow]:
    return [
        ParityRow(
            messages=tuple(messages),
            tools=tuple(tools),
            today=today,
            token_ids=tuple(codec.render(messages, tools, today=datetime.date.fromisoformat(today))),
        )
        for messages, tools in JINJA_PROMPTS
    ]


@pytest.mark.parametrize("date", [None, "2026-01-31", "today"])
def test_the_prompts_of_the_manifest_are_rendered(tiny_oss: Path, date: str | None) -> None:
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings(conversation_date=date))
    assert check_template(parity_rows(codec, "2025-02-03"), codec) == len(JINJA_PROMPTS)


def test_another_prompt_is_refused(tiny_oss: Path) -> None:
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    row = parity_rows(codec, "2025-02-03")[0]
    changed = row.model_copy(update={"token_ids": (*row.token_ids, 300)})
    with pytest.raises(CheckpointError, match="renders prompt 2 of the manifest's `parity` otherwise than training"):
        check_template([row, changed], codec)
