"""smol-oss-135m: it computes what SmolLM2 does, and its tokens have distinct embeddings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from jobs.bases.smol_oss_weights import separate_rows
from jobs.build_base_model import main
from tuneyard.checkpoints.validation import validate_hf_checkpoint

TEXT = "Häuser 日本語 \U0001f389\u200d\x00 naïve <|end|> 3.7 metres\n\n\ttabs"


@pytest.mark.integration
def test_smol_is_smollm2(tmp_path: Path) -> None:
    assert main(["smol-oss-135m", "--output", str(tmp_path / "smol")]) == 0
    manifest = validate_hf_checkpoint(tmp_path / "smol")
    proof = {
        key: float(manifest.proof[key])
        for key in ("nll_source", "nll_result", "nll_source_prose", "nll_unclamped_prose")
    }
    assert abs(proof["nll_unclamped_prose"] - proof["nll_source_prose"]) <= 0.005
    assert abs(proof["nll_result"] - proof["nll_source"]) <= 0.01
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "smol")
    assert tokenizer.decode(tokenizer.encode(TEXT.replace("<|end|>", ""))) == TEXT.replace("<|end|>", "")


def test_tokens_that_share_a_row_get_rows_of_their_own() -> None:
    embedding = torch.randn(8, 16)
    embedding[3] = embedding[5] = embedding[6]
    rows = separate_rows(embedding, [3, 4, 5])
    assert torch.equal(rows[[0, 1, 2, 4, 6, 7]], embedding[[0, 1, 2, 4, 6, 7]])
    assert torch.cdist(rows, rows).add(torch.eye(8)).min() > 0.1
