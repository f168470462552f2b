"""Prompts read from texts and chats, and completions written as JSONL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.generation.completions import parse_completion, write_completions
from jobs.generation.prompts import read_prompts
from tests.harmony_text import encode_spelled_out
from tuneyard.chats.row_settings import RowSettings
from tuneyard.core.errors import ConfigError
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings


def test_prompts_are_texts_then_chats_up_to_their_answer(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "q2"}, {"role": "assistant", "content": "a2"}]
    (tmp_path / "chats.jsonl").write_text(json.dumps({"messages": messages}))
    prompts = read_prompts(["q1"], str(tmp_path / "chats.jsonl"))
    assert [prompt.question for prompt in prompts] == ["q1", "q2"]
    with pytest.raises(ConfigError, match="give --prompt TEXT or --data FILE"):
        read_prompts([], None)


def test_prompts_of_a_file_are_read_with_the_settings_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "qa.jsonl").write_text(json.dumps({"ask": "q", "say": "a"}))
    settings = RowSettings(columns={"prompt": "ask", "completion": "say", "system": "Be kind, {ask}."})
    (prompt,) = read_prompts([], str(tmp_path / "qa.jsonl"), settings)
    assert [(message.role, message.content) for message in prompt.messages] == [
        ("system", "Be kind, q."),
        ("user", "q"),
    ]


def test_a_completion_is_written_with_its_question_and_reasoning(tiny_oss: Path, tmp_path: Path) -> None:
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    text = "<|channel|>analysis<|message|>why<|end|><|start|>assistant<|channel|>final<|message|>because<|return|>"
    completion = parse_completion(codec, encode_spelled_out(tiny_oss, text))
    write_completions(read_prompts(["q"], None), [completion], tmp_path / "out.jsonl")
    written = json.loads((tmp_path / "out.jsonl").read_text())
    assert written == {"prompt": "q", "content": "because", "reasoning_content": "why", "complete": True}
