"""llguidance with GPT-OSS's own vocabulary and its real end token, on logits that lie on the GPU."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.gpu
VOCABULARY, RETURN = 201_088, 200_002
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "degrees": {"type": "integer", "maximum": 99}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}


def test_an_answer_ends_with_return(record: Callable[[str, dict[str, Any]], None], tmp_path: Path) -> None:
    """Random logits, so only the grammar makes the answer: its JSON follows the schema, and <|return|> ends it."""
    pytest.importorskip("llguidance")
    pytest.importorskip("openai_harmony")
    from jobs.bases.o200k_tokenizer import build_o200k_tokenizer
    from serve_apps.engines.engine import GenerationRequest, SamplingParams
    from serve_apps.engines.grammars.grammar_compiler import GrammarCompiler
    from serve_apps.engines.token_sampling import TokenChooser
    from tuneyard.configs.grammar_limits import GrammarLimits
    from tuneyard.harmony.answer_grammar import answer_grammar
    from tuneyard.harmony.encoding import load_harmony_encoding

    build_o200k_tokenizer().save(str(tmp_path / "tokenizer.json"))
    compiler = GrammarCompiler(tmp_path, VOCABULARY, GrammarLimits())
    grammar = asyncio.run(compiler.compile(answer_grammar(ending="answer", schema=SCHEMA)))
    compiler.close()
    encoding = load_harmony_encoding()
    # Biases end the message soon: random logits would write the longest strings.
    biases = tuple((token, 20.0) for token in encoding.encode('"}<|channel|>final', allowed_special="all"))
    sampling = SamplingParams(400, temperature=0.0, logit_bias=biases)
    chooser = TokenChooser(GenerationRequest("g", (1,), sampling, (RETURN,)), grammar)
    generator = torch.Generator("cuda").manual_seed(5)
    answer: list[int] = []
    started = time.perf_counter()
    while len(answer) < 400 and RETURN not in answer:
        answer.append(chooser.choose(torch.randn(1, VOCABULARY, device="cuda", generator=generator)))
        assert chooser.error is None
    per_token = 1000 * (time.perf_counter() - started) / len(answer)
    record("grammar", {"tokens": len(answer), "milliseconds_per_token": round(per_token, 3)})
    assert answer[-1] == RETURN
    text = encoding.decode(answer)
    assert set(json.loads(text[text.rindex("<|message|>") + 11 : text.rindex("<|return|>")])) == {"city", "degrees"}
