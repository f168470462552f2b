"""flex_attention with sinks gives what eager attention gives, in single rows, padded batches and packs.

On a CPU, uncompiled: PyTorch has no compiled backward pass for it there. tests/gpu compiles it.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention as uncompiled

from jobs.training import flex_attention
from jobs.training.collator import TokenCollator
from jobs.training.model_loading import load_dequantised
from tests.jobs.training.backend_contract import token_rows
from tuneyard.training_data.token_table import TOKEN_COLUMNS, TokenTable, pack_rows


@pytest.fixture(scope="module")
def rows(tiny_oss: Path) -> TokenTable:
    return token_rows(tiny_oss, chats=6)


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU the functions of PyTorch must run uncompiled, and masks lie in main memory."""
    monkeypatch.setattr(flex_attention, "_compiled", lambda: uncompiled)
    monkeypatch.setattr(flex_attention, "flex_attention_mask", _uncompiled_mask)


def _uncompiled_mask(*, q_length: int, kv_length: int, mask_function: Any, **_: Any) -> Any:
    return flex_attention.create_block_mask(mask_function, None, None, q_length, kv_length, device="cpu")


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("packed", [False, True])
def test_logits_are_those_of_eager_attention(tiny_oss: Path, rows: TokenTable, packed: bool) -> None:
    """tiny-oss-random has sinks with an effect, and a sliding window of 16 tokens."""
    table = pack_rows(rows.rows, 2048) if packed else rows.rows
    batch = table.select(list(TOKEN_COLUMNS)).to_pylist()[:3]
    logits = []
    for attention in ("eager", flex_attention.NAME):
        model = load_dequantised(tiny_oss, torch.float32, on_gpu=False, attention=attention).eval()
        device = torch.device("cpu") if attention == flex_attention.NAME else None
        collator = TokenCollator(0, model.config.sliding_window, torch.float32, device)
        inputs = collator(batch)
        labelled = inputs["shift_labels"] != -100
        names = ("input_ids", "position_ids", "attention_mask", "logits_to_keep")
        with torch.no_grad():
            logits.append(model(**{name: inputs[name] for name in names}, use_cache=False).logits[labelled])
    torch.testing.assert_close(logits[1], logits[0], atol=2e-4, rtol=2e-4)


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("keys", [1, 3, 6])
def test_sinks_take_their_share_at_any_number_of_heads_per_key(keys: int) -> None:
    """Against the softmax written out, with six heads, each with another sink."""
    query, key, value = torch.randn(2, 6, 10, 16), torch.randn(2, keys, 10, 16), torch.randn(2, keys, 10, 16)
    sinks = torch.linspace(-2, 4, 6)
    found, _ = flex_attention.attention_with_sinks(None, query, key, value, None, scaling=0.25, s_aux=sinks)
    keys_of_heads, values_of_heads = (each.repeat_interleave(6 // keys, dim=1) for each in (key, value))
    scores = torch.cat([query @ keys_of_heads.mT * 0.25, sinks.view(1, 6, 1, 1).expand(2, 6, 10, 1)], dim=-1)
    expected = scores.softmax(-1)[..., :-1] @ values_of_heads
    torch.testing.assert_close(found, expected.transpose(1, 2))


def test_every_variant_of_a_run_is_compiled() -> None:
    """Training and evaluation, two kinds of mask, packs or not, several lengths: more than PyTorch's limit of 8.

    Uncompiled, flex_attention warns that it holds all scores, and here a warning is an error.
    """
    compiled = flex_attention._compiled(backend="eager")

    def run(rows: int, length: int, is_training: bool) -> None:
        segments = (torch.arange(length) // 100).expand(rows, -1)
        for mask in (*flex_attention.packed_block_masks(segments, 32, 128).values(), None):
            states = [torch.randn(rows, 2, length, 16) for _ in range(3)]
            with torch.set_grad_enabled(is_training):
                assert compiled(*states, block_mask=mask).shape == states[0].shape

    for rows, length, is_training in itertools.product((1, 2), (128, 256), (True, False)):
        # As in the backward pass of a checkpointed layer, in a thread of its own.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(run, rows, length, is_training).result()
