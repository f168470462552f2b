"""tiny-oss-random: reproducible, loadable, and with every part of the architecture active."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from jobs.bases.published_form import END_TOKENS
from jobs.bases.tiny_oss import SPECIAL_TOKENS, build_tiny_oss
from tuneyard.checkpoints.manifest import read_manifest

TEXT = "Häuser 日本語 \U0001f389\u200d\x00 naïve <|end|> 3.7 metres\n\n\ttabs"


def test_the_same_seed_gives_the_same_checkpoint(tiny_oss: Path, tmp_path: Path) -> None:
    again = build_tiny_oss(tmp_path / "again")
    first = read_manifest(tiny_oss)
    assert again.digest == first.digest
    assert again.files == first.files
    assert build_tiny_oss(tmp_path / "other", seed=1).digest != first.digest


def test_the_tokenizer_keeps_any_text_and_has_harmonys_tokens(tiny_oss: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_oss / "tokenizer.json"))
    assert [tokenizer.encode(token).ids for token in SPECIAL_TOKENS] == [[i] for i in range(len(SPECIAL_TOKENS))]
    tokenizer.encode_special_tokens = True
    assert tokenizer.decode(tokenizer.encode(TEXT).ids, skip_special_tokens=False) == TEXT


def test_transformers_loads_it(tiny_oss: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_oss)
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token) == (
        "<|return|>",
        "<|endoftext|>",
        "<|startoftext|>",
    )
    generation = GenerationConfig.from_pretrained(tiny_oss)
    assert generation.eos_token_id == tokenizer.convert_tokens_to_ids(list(END_TOKENS))


def test_routing_sinks_window_and_logits_are_active(tiny_oss: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_oss, dtype=torch.float32, experts_implementation="eager").eval()
    ids = torch.arange(20, 84).unsqueeze(0)

    def logits() -> torch.Tensor:
        output: torch.Tensor = model(ids).logits
        return output

    with torch.inference_mode():
        output = model(ids, output_router_logits=True)
        for router_logits in output.router_logits:
            assert router_logits.topk(2, dim=-1).indices.unique().numel() == 8
        assert 1.0 < output.logits.std() < 10.0
        assert output.logits.argmax(-1).unique().numel() > 16
        model.config.sliding_window = 128
        assert not torch.allclose(logits(), output.logits, atol=1e-2)
        model.config.sliding_window = 16
        assert torch.equal(logits(), output.logits)
        model.model.layers[1].self_attn.sinks.fill_(-1e4)
        assert not torch.allclose(logits(), output.logits, atol=1e-2)
