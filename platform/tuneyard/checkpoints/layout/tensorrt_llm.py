"""What TensorRT-LLM 1.2 asks of a GPT-OSS checkpoint beyond what every loader does.

Its weight loader (tensorrt_llm/_torch/models/modeling_gpt_oss.py) tries the BF16 form, swallows whatever goes wrong and
tries MXFP4: a checkpoint with a fault comes out as a misleading KeyError on `gate_up_proj_blocks`, or as another model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tuneyard.checkpoints.layout.gpt_oss import MXFP4_CONFIG
from tuneyard.checkpoints.layout.safetensors_header import TensorEntry

_ROPE_FIELDS = ("rope_type", "factor", "beta_fast", "beta_slow", "original_max_position_embeddings")


def tensorrt_llm_problems(config: Mapping[str, Any], tensors: Mapping[str, TensorEntry]) -> Iterator[str]:
    """What would fail or go wrong there; `config` is config.json. Empty for a checkpoint that it loads rightly."""
    yield from _dtype_problems(config, tensors)
    yield from _window_problems(config)
    if "num_experts" in config:
        # Other names of that form, such as experts_per_token, stand in OpenAI's own Hugging Face config too.
        yield (
            "config.json: has num_experts, a name of OpenAI's original form: TensorRT-LLM would read the whole file as "
            "such. Remove it, and write the manifest again."
        )
    scaling = config.get("rope_scaling")
    lacking = [field for field in _ROPE_FIELDS if not isinstance(scaling, dict) or scaling.get(field) is None]
    if lacking or (isinstance(scaling, dict) and scaling.get("rope_type") != "yarn"):
        yield (
            f"config.json: rope_scaling is {scaling!r}; transformers 4.57.3, which TensorRT-LLM reads it with, needs "
            f"rope_type yarn with {', '.join(_ROPE_FIELDS[1:])}."
        )


def _dtype_problems(config: Mapping[str, Any], tensors: Mapping[str, TensorEntry]) -> Iterator[str]:
    other = {
        entry.dtype
        for name, entry in tensors.items()
        if entry.dtype not in ("BF16", "U8") and not name.endswith("norm.weight")
    }
    if other:
        yield (
            f"the weights are {' and '.join(sorted(other))}; TensorRT-LLM serves GPT-OSS in BF16, its experts in MXFP4 "
            "too. Export from a BF16 base."
        )
    quantisation = config.get("quantization_config")
    if quantisation is None:
        return
    if quantisation.get("quant_method") != MXFP4_CONFIG["quant_method"]:
        yield f"config.json: quant_method is {quantisation.get('quant_method')!r}, only mxfp4 is served."
    kept = set(quantisation.get("modules_to_not_convert") or ())
    if unnamed := [name for name in MXFP4_CONFIG["modules_to_not_convert"] if name not in kept]:
        yield (
            f"config.json: quantization_config.modules_to_not_convert lacks {', '.join(unnamed)}, so that TensorRT-LLM "
            "would take them for quantised, which they are not."
        )


def _window_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """It gives every even layer the window, whatever layer_types says."""
    layers = config.get("layer_types")
    expected = ["sliding_attention", "full_attention"]
    if layers is not None and layers != [expected[index % 2] for index in range(len(layers))]:
        first = next(index for index, kind in enumerate(layers) if kind != expected[index % 2])
        yield (
            f"config.json: layer_types[{first}] is {layers[first]!r}. TensorRT-LLM gives even layers the window and "
            "odd ones full attention, whatever stands there: it would serve another model."
        )
