"""A checkpoint asked in transformers: chats have the prompts and the answers of serving."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from jobs.evaluation.tasks.checkpoint_model import CheckpointModel, LoadedCheckpoint
from tests.harmony_text import encode_spelled_out
from tuneyard.chats.messages import ChatMessage
from tuneyard.core.errors import ConfigError
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What does E47 <|end|> mean?"}]
GREEDY = {"until": ["\n\n"], "max_gen_toks": 7, "do_sample": False, "temperature": 0.0}


class ScriptedAnswers:
    """In place of the model's `generate`: continues each prompt with the same tokens, and records the calls."""

    def __init__(self, answer: list[int]) -> None:
        self.answer = answer
        self.calls: list[dict[str, Any]] = []

    def __call__(self, *, input_ids: torch.Tensor, **options: Any) -> torch.Tensor:
        self.calls.append({"prompt": input_ids[0].tolist(), **options})
        return torch.cat([input_ids, torch.tensor([self.answer])], dim=1)


@pytest.fixture
def loaded(tiny_oss: Path) -> LoadedCheckpoint:
    model: LoadedCheckpoint = CheckpointModel("tiny", tiny_oss, 100).open("chat", scores_texts=False)
    return model


def ask(loaded: LoadedCheckpoint, **generation: Any) -> str:
    chat = loaded.apply_chat_template(CHAT)
    (answer,) = loaded.generate_until([SimpleNamespace(args=(chat, GREEDY | generation))], disable_tqdm=True)
    return answer


def test_the_prompt_is_servings_and_the_answer_is_the_final_channel(loaded: LoadedCheckpoint, tiny_oss: Path) -> None:
    reply = (
        "<|channel|>analysis<|message|>Think.\n\nMore.<|end|>"
        "<|start|>assistant<|channel|>final<|message|>The filter.\n\nAnd more.<|return|>"
    )
    answers = ScriptedAnswers(encode_spelled_out(tiny_oss, reply))
    loaded.model.generate = answers
    assert ask(loaded) == "The filter."
    assert ask(loaded, do_sample=True, temperature=0.5, max_gen_toks=10**9) == "The filter."
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    greedy, sampled = answers.calls
    assert greedy["prompt"] == codec.render([ChatMessage.model_validate(message) for message in CHAT])
    assert (greedy["max_new_tokens"], greedy["do_sample"], "temperature" in greedy) == (7, False, False)
    assert greedy["eos_token_id"] == list(codec.stop_token_ids)
    assert (sampled["do_sample"], sampled["temperature"]) == (True, 0.5)
    assert sampled["max_new_tokens"] == loaded.max_length - len(greedy["prompt"])


def test_a_real_answer_is_bounded_and_the_same_again(loaded: LoadedCheckpoint) -> None:
    assert ask(loaded) == ask(loaded)


def test_a_chat_beyond_the_context_is_refused(loaded: LoadedCheckpoint) -> None:
    chat = json.dumps([{"role": "user", "content": "filter " * 2 * loaded.max_length}])
    with pytest.raises(ConfigError, match=f"but the model's context is {loaded.max_length}"):
        loaded.generate_until([SimpleNamespace(args=(chat, GREEDY))], disable_tqdm=True)
