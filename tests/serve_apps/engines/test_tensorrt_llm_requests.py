"""What TensorRT-LLM gets of a request: a grammar that its own use of llguidance follows to the end of an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import llguidance
import llguidance.numpy
import numpy as np
import pytest
from tokenizers import Tokenizer

from serve_apps.engines.engine import GenerationRequest, SamplingParams
from serve_apps.engines.tensorrt_llm_requests import sampling_arguments
from tuneyard.chats.messages import ChatTool
from tuneyard.harmony.answer_grammar import answer_grammar

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = ChatTool.model_validate({"function": {"name": "weather", "parameters": SCHEMA}})
THOUGHT = "<|channel|>analysis<|message|>Rome.<|end|><|start|>assistant"
FINAL = "<|channel|>final <|constrain|>json<|message|>"
CALL = '<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{"city": "Rome"}<|call|>'


def end_of_guided_answer(grammar: str, answer: str, checkpoint: Path) -> str | None:
    """The token at which TensorRT-LLM would refuse the answer; None if it takes all of it.

    As LLGuidanceMatcher in tensorrt_llm/_torch/pyexecutor/grammar_matcher.py of 1.2: the end token of llguidance is the
    tokenizer's eos_token, and each token must be in the mask before it is accepted.
    """
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    end, size = tokenizer.token_to_id("<|return|>"), tokenizer.get_vocab_size()
    matcher = llguidance.LLMatcher(
        llguidance.LLTokenizer((checkpoint / "tokenizer.json").read_text(), n_vocab=size, eos_token=end), grammar
    )
    mask = llguidance.numpy.allocate_token_bitmask(1, size)
    for token in tokenizer.encode(answer, add_special_tokens=False).ids:
        llguidance.numpy.fill_next_token_bitmask(matcher, mask, 0)
        allowed = np.unpackbits(mask[0].view(np.uint8), bitorder="little")
        is_accepted = token == end if matcher.is_stopped() else matcher.try_consume_tokens([token]) > 0
        if not (allowed[token] and is_accepted) or matcher.is_error():
            return str(tokenizer.id_to_token(token))
    return None


@pytest.mark.parametrize(
    ("options", "answer", "refused"),
    [
        ({"ending": "answer", "schema": SCHEMA}, FINAL + '{"city": "Rome"}<|return|>', None),
        ({"ending": "answer", "schema": SCHEMA}, THOUGHT + FINAL + '{"city": "<|return|> "}<|return|>', "<|return|>"),
        ({"ending": "answer", "schema": SCHEMA}, FINAL + '{"city": "Rome"<|return|>', "<|return|>"),
        ({"ending": "either", "tools": [TOOL]}, THOUGHT + FINAL + "It rains.<|return|>", None),
        ({"ending": "either", "tools": [TOOL], "schema": SCHEMA}, THOUGHT + CALL, None),
        ({"ending": "call", "tools": [TOOL]}, CALL, None),
        ({"ending": "call", "tools": [TOOL]}, CALL.replace("city", "town"), "t"),
    ],
)
def test_a_guided_answer_ends(options: dict[str, Any], answer: str, refused: str | None, tiny_oss: Path) -> None:
    """`<|return|>` is the end token there, which llguidance never takes as a part of a grammar."""
    request = GenerationRequest("r", (1,), SamplingParams(9), (2, 8), grammar=answer_grammar(**options))
    guided = sampling_arguments(request)["guided_decoding"]
    assert end_of_guided_answer(guided["grammar"], answer, tiny_oss) == refused
