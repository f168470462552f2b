"""Attention with GPT-OSS's sinks by PyTorch's flex_attention, whose memory grows with a row's length, not its square.

transformers has one too, but it rounds the log-sum-exp to bf16 before it weighs it against the sinks, and it makes no
mask for packs. Importing this module registers the attention with transformers under NAME.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch
import transformers
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, create_block_mask, flex_attention
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, flex_attention_mask
from transformers.models.gpt_oss.modeling_gpt_oss import repeat_kv

NAME = "flex_attention_with_sinks"
"""The name for `attn_implementation`."""

LONGEST_UNCOMPILED_MASK = 16_384
"""Tokens of a row up to which a mask is made from all pairs of tokens, a byte each; compiling it takes seconds."""

COMPILED_VARIANTS = 64
"""Variants of flex_attention that may be compiled in a process."""


def attention_with_sinks(
    _module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: BlockMask | None,
    scaling: float,
    s_aux: torch.Tensor,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """The attention function that transformers calls.

    `query` is [rows, heads, length, head size], `key` and `value` have as many heads as the model has key-value heads,
    and `s_aux` holds one sink per head. Returns [rows, length, heads, head size].
    """
    # Under autocast the rotary embedding leaves query and key in fp32, while value is in bf16.
    query, key = query.to(value.dtype), key.to(value.dtype)
    heads_per_key = query.shape[1] // key.shape[1]
    if heads_per_key & (heads_per_key - 1):
        # The kernels share a key-value head among a power of two of heads only.
        key, value = repeat_kv(key, heads_per_key), repeat_kv(value, heads_per_key)
    output, aux = _compiled()(
        query, key, value, block_mask=attention_mask, scale=scaling, enable_gqa=True, return_aux=AuxRequest(lse=True)
    )
    # A sink is one more entry of the softmax, with a value of zero: it takes exp(sink) / (exp(lse) + exp(sink)) of the
    # weight from all others.
    kept = torch.sigmoid(aux.lse.float() - s_aux.float()[None, :, None])
    output = output * kept[..., None].to(output.dtype)
    return output.transpose(1, 2).contiguous(), None


@functools.cache
def _compiled(backend: str = "inductor") -> Any:
    """Uncompiled, flex_attention holds all scores. PyTorch compiles it for the first length, then once for all others.

    On an H100's host each takes 20 to 40 s.
    """
    # Each kind of mask, packed or not, with and without gradients, is a variant. Beyond 8, PyTorch would run the rest
    # uncompiled.
    options: dict[str, Any] = {}
    if "recompile_limit" in inspect.signature(torch.compile).parameters:
        # Newer releases keep the config per thread, and the backward pass of a checkpointed layer has its own thread.
        options["recompile_limit"] = COMPILED_VARIANTS
    else:
        torch._dynamo.config.recompile_limit = COMPILED_VARIANTS
    # PyTorch's DDPOptimizer splits graphs at the buckets of gradients. This graph has no weights, and older releases
    # refuse flex_attention there (pytorch/pytorch issue 137481).
    torch._dynamo.config.optimize_ddp = False
    # An error, where PyTorch would otherwise run uncompiled.
    return torch.compile(flex_attention, fullgraph=True, backend=backend, **options)


def packed_block_masks(segments: torch.Tensor, sliding_window: int, block: int) -> dict[str, BlockMask]:
    """Masks by transformers' layer types: a token sees its own segment up to itself, at most `sliding_window` tokens.

    `segments` [rows, length] is on the GPU, and the masks keep it. `block` is the side of a mask's blocks, in tokens.
    """

    def sees(row: Any, _head: Any, position: Any, other: Any) -> Any:
        return (segments[row, position] == segments[row, other]) & (other <= position)

    def sees_window(row: Any, head: Any, position: Any, other: Any) -> Any:
        return sees(row, head, position, other) & (position - other < sliding_window)

    rows, length = segments.shape
    return {
        name: create_block_mask(
            mask,
            rows,
            None,
            length,
            length,
            device=str(segments.device),
            BLOCK_SIZE=block,
            _compile=length > LONGEST_UNCOMPILED_MASK,
        )
        for name, mask in (("full_attention", sees), ("sliding_attention", sees_window))
    }


def _mask_without_padding(*arguments: Any, attention_mask: torch.Tensor | None = None, **options: Any) -> BlockMask:
    """transformers' mask, but blind to padding: rows are padded on the right, where no token of a row looks.

    A mask that holds no tensor is the same for all batches of a shape.
    """
    del attention_mask
    mask: BlockMask = flex_attention_mask(*arguments, **options)
    return mask


transformers.AttentionInterface.register(NAME, attention_with_sinks)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, _mask_without_padding)
