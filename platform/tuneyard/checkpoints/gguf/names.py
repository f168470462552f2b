"""The names of tensors in llama.cpp and in transformers: one table, for writing GGUF files and for reading them."""

from __future__ import annotations

MODEL_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
"""transformers' name of each tensor outside the layers by llama.cpp's name."""

ATTENTION_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}
"""transformers' name of a module by llama.cpp's name, inside a layer: those that Llama and GPT-OSS share."""

GPT_OSS_NAMES = {
    **{f"{name}.weight": f"{module}.weight" for name, module in ATTENTION_NAMES.items()},
    **{f"{name}.bias": f"{module}.bias" for name, module in ATTENTION_NAMES.items() if name != "attn_norm"},
    "attn_sinks.weight": "self_attn.sinks",
    "post_attention_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate_inp.weight": "mlp.router.weight",
    "ffn_gate_inp.bias": "mlp.router.bias",
    "ffn_gate_exps.weight": "mlp.experts.gate_up_proj",
    "ffn_up_exps.weight": "mlp.experts.gate_up_proj",
    "ffn_gate_exps.bias": "mlp.experts.gate_up_proj_bias",
    "ffn_up_exps.bias": "mlp.experts.gate_up_proj_bias",
    "ffn_down_exps.weight": "mlp.experts.down_proj",
    "ffn_down_exps.bias": "mlp.experts.down_proj_bias",
}
"""transformers' name of each tensor of a GPT-OSS layer by llama.cpp's name.

transformers holds the gate's and the up projection's outputs in one tensor, one of each by turns; llama.cpp holds two.
"""

FIRST_OF_PAIR = {"ffn_gate_exps": 0, "ffn_up_exps": 1}
"""Which outputs of transformers' gate_up_proj a llama.cpp tensor holds: every second one, from this one on."""


def gguf_names(layers: int) -> dict[str, str]:
    """transformers' name of every tensor of a GPT-OSS model, by llama.cpp's name, in the order of the file."""
    names = {"token_embd.weight": MODEL_NAMES["token_embd.weight"]}
    for layer in range(layers):
        names |= {f"blk.{layer}.{name}": f"model.layers.{layer}.{hf}" for name, hf in GPT_OSS_NAMES.items()}
    return names | MODEL_NAMES
