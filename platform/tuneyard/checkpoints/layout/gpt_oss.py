"""What a GPT-OSS checkpoint in Hugging Face form must look like, from its config.json alone.

The names and shapes are those of transformers' models/gpt_oss/modeling_gpt_oss.py; of the quantised
form, those of openai/gpt-oss-20b. transformers 4.57 (which TensorRT-LLM pins) and 5.x must read the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuneyard.checkpoints.layout.safetensors_header import TensorEntry
from tuneyard.core.errors import CheckpointError
from tuneyard.core.wording import first_of

ARCHITECTURE = "GptOssForCausalLM"
TOKENIZER_CLASS = "PreTrainedTokenizerFast"
_DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
_MXFP4_BLOCK = 32

MXFP4_CONFIG: dict[str, Any] = {
    "quant_method": "mxfp4",
    "modules_to_not_convert": [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
        "model.embed_tokens",
        "lm_head",
    ],
}
"""`quantization_config` of openai/gpt-oss-20b and -120b."""


def expected_tensors(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of an unquantised checkpoint.

    Experts are `[expert, in, out]`. Raises CheckpointError if config.json lacks a size.
    """
    hidden, vocabulary = _size(config, "hidden_size"), _size(config, "vocab_size")
    tensors: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocabulary, hidden),
        "model.norm.weight": (hidden,),
        "lm_head.weight": (vocabulary, hidden),
    }
    for layer in range(_size(config, "num_hidden_layers")):
        tensors |= {f"model.layers.{layer}.{name}": shape for name, shape in _layer_tensors(config).items()}
    return tensors


def expected_mxfp4_tensors(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The same for MXFP4 weights: expert matrices as `_blocks` `[expert, out, in/32, 16]` and `_scales`."""
    tensors: dict[str, tuple[int, ...]] = {}
    for name, shape in expected_tensors(config).items():
        if is_expert_matrix(name, shape):
            experts, wide_in, wide_out = shape
            tensors[f"{name}_blocks"] = (experts, wide_out, wide_in // _MXFP4_BLOCK, _MXFP4_BLOCK // 2)
            tensors[f"{name}_scales"] = (experts, wide_out, wide_in // _MXFP4_BLOCK)
        else:
            tensors[name] = shape
    return tensors


def is_expert_matrix(name: str, shape: Sequence[int]) -> bool:
    """Whether a tensor is one of those that MXFP4 quantises."""
    return name.endswith("_proj") and len(shape) == 3


def is_mxfp4(folder: Path) -> bool:
    """Whether the checkpoint's config says that its experts are MXFP4. Raises CheckpointError without a config."""
    quantisation = read_json(folder / "config.json").get("quantization_config")
    return isinstance(quantisation, dict) and quantisation.get("quant_method") == "mxfp4"


def _layer_tensors(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, inner = _size(config, "hidden_size"), _size(config, "intermediate_size")
    heads, head_dim, experts = (_size(config, key) for key in ("num_attention_heads", "head_dim", "num_local_experts"))
    queries, keys = heads * head_dim, _size(config, "num_key_value_heads") * head_dim
    return {
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (queries, hidden),
        "self_attn.q_proj.bias": (queries,),
        "self_attn.k_proj.weight": (keys, hidden),
        "self_attn.k_proj.bias": (keys,),
        "self_attn.v_proj.weight": (keys, hidden),
        "self_attn.v_proj.bias": (keys,),
        "self_attn.o_proj.weight": (hidden, queries),
        "self_attn.o_proj.bias": (hidden,),
        "self_attn.sinks": (heads,),
        "mlp.router.weight": (experts, hidden),
        "mlp.router.bias": (experts,),
        "mlp.experts.gate_up_proj": (experts, hidden, 2 * inner),
        "mlp.experts.gate_up_proj_bias": (experts, 2 * inner),
        "mlp.experts.down_proj": (experts, inner, hidden),
        "mlp.experts.down_proj_bias": (experts, hidden),
    }


def _size(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if type(value) is not int or value < 1:
        raise CheckpointError(f"config.json: {key} is {value!r}, a GPT-OSS config needs a positive number there.")
    return value


def config_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """What in config.json would make a loader fail, or silently load another model."""
    if config.get("architectures") != [ARCHITECTURE]:
        yield f"config.json: architectures is {config.get('architectures')!r}, Tuneyard serves [{ARCHITECTURE!r}] only."
    if config.get("tie_word_embeddings"):
        yield "config.json: tie_word_embeddings is true; GPT-OSS has an lm_head of its own."
    parameters, scaling, theta = (config.get(key) for key in ("rope_parameters", "rope_scaling", "rope_theta"))
    if not isinstance(parameters, dict) or not isinstance(scaling, dict) or theta is None:
        absent = [key for key in ("rope_parameters", "rope_scaling", "rope_theta") if not config.get(key)]
        yield (
            f"config.json: lacks {' and '.join(absent)}: transformers 4.57 reads rope_theta and rope_scaling, "
            "5.x rope_parameters, and each takes its own default for what it does not find. "
            "Fix: tuneyard.checkpoints.layout.portable.make_checkpoint_portable(folder), then write the manifest again."
        )
    elif parameters != {**scaling, "rope_theta": theta}:
        yield (
            f"config.json: rope_parameters {parameters} is not rope_scaling {scaling} with rope_theta {theta}: "
            "transformers 4.57 and 5.x would load different models."
        )


def tensor_problems(config: Mapping[str, Any], tensors: Mapping[str, TensorEntry]) -> Iterator[str]:
    """How the weights differ from what config.json promises: form, names, shapes, dtypes."""
    is_quantised = any(name.endswith("_blocks") for name in tensors)
    quantisation = config.get("quantization_config")
    if quantisation and not is_quantised:
        yield (
            f"config.json: stale quantization_config ({quantisation.get('quant_method', '?')}): the weights are not "
            "quantised, so a loader would misread them. Fix: remove the field, then write the manifest again."
        )
    if is_quantised and not quantisation:
        yield "config.json: the weights are MXFP4 (`_blocks`, `_scales`) but there is no quantization_config."
    try:
        expected = expected_mxfp4_tensors(config) if is_quantised else expected_tensors(config)
    except CheckpointError as e:
        yield str(e)
        return
    missing, unexpected = sorted(expected.keys() - tensors), sorted(tensors.keys() - expected)
    if missing or unexpected:
        yield (
            f"the weights are not named as {ARCHITECTURE}'s: missing {first_of(missing)}; "
            f"unexpected {first_of(unexpected)}. "
            "A loader would fill the missing ones with random numbers. Export the weights again."
        )
    for name in sorted(expected.keys() & tensors):
        if tensors[name].shape != expected[name]:
            yield f"{name}: shape {list(tensors[name].shape)} where config.json promises {list(expected[name])}."
    yield from _dtype_problems(config, tensors)


def _dtype_problems(config: Mapping[str, Any], tensors: Mapping[str, TensorEntry]) -> Iterator[str]:
    """Norms may be F32 beside any dtype (transformers keeps them so), MXFP4 parts are U8, the rest is as promised."""
    named = config.get("dtype") or config.get("torch_dtype")
    lm_head = tensors.get("lm_head.weight")
    promised = _DTYPES.get(str(named)) if named else lm_head and lm_head.dtype
    if promised not in _DTYPES.values():
        yield f"config.json: dtype is {named or promised!r}, expected one of {', '.join(_DTYPES)}."
        return
    for name, tensor in sorted(tensors.items()):
        allowed = {"U8"} if name.endswith(("_blocks", "_scales")) else {promised}
        if name.endswith("norm.weight"):
            allowed.add("F32")
        if tensor.dtype not in allowed:
            yield f"{name}: dtype {tensor.dtype} where config.json promises {' or '.join(sorted(map(str, allowed)))}."


def tokenizer_problems(folder: Path, config: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with tokenizer.json and tokenizer_config.json beside the weights."""
    try:
        tokenizer = read_json(folder / "tokenizer.json")
        added = [token["id"] for token in tokenizer.get("added_tokens", [])]
        highest = max([*tokenizer["model"]["vocab"].values(), *added])
        if highest >= config.get("vocab_size", 0):
            yield (
                f"tokenizer.json: token ids go up to {highest}, but vocab_size in config.json is "
                f"{config.get('vocab_size')}. They belong to different models."
            )
    except CheckpointError as e:
        yield str(e)
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        yield f"tokenizer.json: not a tokenizers file ({e!r})."
    try:
        found = read_json(folder / "tokenizer_config.json").get("tokenizer_class")
    except CheckpointError as e:
        yield str(e)
        return
    if found != TOKENIZER_CLASS:
        yield (
            f"tokenizer_config.json: tokenizer_class is {found!r}, which only one of transformers 4.57 and 5.x "
            f"loads; {TOKENIZER_CLASS!r} loads in both. "
            "Fix: tuneyard.checkpoints.layout.portable.make_checkpoint_portable(folder), then write the manifest again."
        )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a checkpoint; raises CheckpointError if it is missing or broken."""
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError as e:
        raise CheckpointError(f"{path.name}: missing in {path.parent}.") from e
    except (OSError, ValueError) as e:
        raise CheckpointError(f"{path}: cannot be read as JSON ({e}).") from e
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: holds a {type(data).__name__}, expected an object.")
    return data
