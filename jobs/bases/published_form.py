"""Config, generation config and tokenizer files in the form in which OpenAI publishes gpt-oss-20b and gpt-oss-120b.

What is published differs from what transformers writes: config.json names no dtype and has fields that transformers
does not know, and generation_config.json names three ids at which generation ends. Tests run on this form, because code
that works with transformers' own files only would fail with the real model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tuneyard.checkpoints.layout.gpt_oss import ARCHITECTURE
from tuneyard.checkpoints.layout.json_files import write_json

END_TOKENS = ("<|return|>", "<|endoftext|>", "<|call|>")
"""At which generation ends, in the published order."""

NAMED_TOKENS = {"bos_token": "<|startoftext|>", "eos_token": "<|return|>", "pad_token": "<|endoftext|>"}
PUBLISHED_WITH = "4.55.0.dev0"
"""`transformers_version` of the published files."""

CHAT_TEMPLATE = (
    "{%- for message in messages -%}<|start|>{{ message.role }}<|message|>{{ message.content }}<|end|>{%- endfor -%}\n"
)
"""Stands for the published template, which no part of Tuneyard renders."""


def published_config(sizes: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """config.json as it is published, with other sizes. `sizes` holds the fields that depend on the size of the model.

    Without quantization_config, which describes the weights.
    """
    return {
        "architectures": [ARCHITECTURE],
        "attention_bias": True,
        "attention_dropout": 0.0,
        "eos_token_id": tokenizer.token_to_id(NAMED_TOKENS["eos_token"]),
        "experts_per_token": sizes["num_experts_per_tok"],
        "hidden_act": "silu",
        "initial_context_length": 4096,
        "initializer_range": 0.02,
        "layer_types": [
            "full_attention" if layer % 2 else "sliding_attention" for layer in range(sizes["num_hidden_layers"])
        ],
        "max_position_embeddings": 131072,
        "model_type": "gpt_oss",
        "output_router_logits": False,
        "pad_token_id": tokenizer.token_to_id(NAMED_TOKENS["pad_token"]),
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "factor": 32.0,
            "original_max_position_embeddings": 4096,
            "rope_type": "yarn",
            "truncate": False,
        },
        "rope_theta": 150000,
        "router_aux_loss_coef": 0.9,
        "swiglu_limit": 7.0,
        "tie_word_embeddings": False,
        "transformers_version": PUBLISHED_WITH,
        "use_cache": True,
        **sizes,
    }


def write_published_form(folder: Path, config: Mapping[str, Any], tokenizer: Tokenizer) -> None:
    """Writes config.json and the generation and tokenizer files to the existing folder. The caller adds the weights."""
    ids = {name: tokenizer.token_to_id(token) for name, token in NAMED_TOKENS.items()}
    write_json(folder / "config.json", config)
    generation = {
        "bos_token_id": ids["bos_token"],
        "do_sample": True,
        "eos_token_id": [tokenizer.token_to_id(token) for token in END_TOKENS],
        "pad_token_id": ids["pad_token"],
        "transformers_version": PUBLISHED_WITH,
    }
    write_json(folder / "generation_config.json", generation)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer_config = {
        "added_tokens_decoder": {
            str(token_id): {
                "content": token.content,
                "lstrip": token.lstrip,
                "normalized": token.normalized,
                "rstrip": token.rstrip,
                "single_word": token.single_word,
                "special": token.special,
            }
            for token_id, token in sorted(tokenizer.get_added_tokens_decoder().items())
        },
        **NAMED_TOKENS,
        "clean_up_tokenization_spaces": False,
        "extra_special_tokens": {},
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 1000000000000000019884624838656,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    write_json(folder / "tokenizer_config.json", tokenizer_config)
    special = {
        name: {"content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
        for name, token in NAMED_TOKENS.items()
    }
    write_json(folder / "special_tokens_map.json", special)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
