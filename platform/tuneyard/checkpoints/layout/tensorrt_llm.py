"""What TensorRT-LLM 1.2 requires of a GPT-OSS checkpoint beyond what every loader requires.

Its weight loader (tensorrt_llm/_torch/models/modeling_gpt_oss.py) tries to load BF16 experts, ignores any error and
then tries MXFP4. A faulty checkpoint therefore ends in a misleading KeyError on `gate_up_proj_blocks`, or loads as
another model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tuneyard.checkpoints.layout.config_checks import ADOPT_AGAIN
from tuneyard.checkpoints.layout.gpt_oss import MXFP4_CONFIG

if TYPE_CHECKING:
    from tuneyard.checkpoints.layout.content_hashes import TensorEntry

_ROPE_FIELDS = ("rope_type", "factor", "beta_fast", "beta_slow", "original_max_position_embeddings")


def tensorrt_llm_problems(config: Mapping[str, Any], tensors: Mapping[str, TensorEntry]) -> Iterator[str]:
    """Yields one message for each reason why TensorRT-LLM would fail or load another model. `config` is config.json."""
    yield from _dtype_problems(config, tensors)
    yield from _window_problems(config)
    if "num_experts" in config:
        # Other names of OpenAI's format, such as experts_per_token, are in OpenAI's own Hugging Face config too.
        yield (
            "config.json has num_experts, a name of OpenAI's original format, so TensorRT-LLM would read the whole "
            f"file in that format. Remove the field. {ADOPT_AGAIN}"
        )
    scaling = config.get("rope_scaling")
    missing = [field for field in _ROPE_FIELDS if not isinstance(scaling, dict) or scaling.get(field) is None]
    if missing or (isinstance(scaling, dict) and scaling.get("rope_type") != "yarn"):
        yield (
            f"config.json: rope_scaling is {scaling!r}. TensorRT-LLM reads it with transformers 4.57.3, which needs "
            f"rope_type yarn with {', '.join(_ROPE_FIELDS[1:])}. Copy the field from the base model."
        )


def _dtype_problems(config: Mapping[str, Any], tensors: Mapping[str, TensorEntry]) -> Iterator[str]:
    other_dtypes = {
        entry.dtype
        for name, entry in tensors.items()
        if entry.dtype not in ("BF16", "U8") and not name.endswith("norm.weight")
    }
    if other_dtypes:
        yield (
            f"the weights are {' and '.join(sorted(other_dtypes))}, but TensorRT-LLM serves GPT-OSS in BF16, with "
            "experts in BF16 or MXFP4. Export from a BF16 base."
        )
    quantisation = config.get("quantization_config")
    if quantisation is None:
        return
    if quantisation.get("quant_method") != MXFP4_CONFIG["quant_method"]:
        yield f"config.json: quant_method is {quantisation.get('quant_method')!r}, but only mxfp4 can be served."
    kept = set(quantisation.get("modules_to_not_convert") or ())
    if unlisted := [name for name in MXFP4_CONFIG["modules_to_not_convert"] if name not in kept]:
        yield (
            f"config.json: quantization_config.modules_to_not_convert lacks {', '.join(unlisted)}, so TensorRT-LLM "
            f"would read these unquantised modules as quantised. Add them. {ADOPT_AGAIN}"
        )


def _window_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """TensorRT-LLM gives every even layer sliding-window attention and ignores layer_types."""
    layers = config.get("layer_types")
    expected = ["sliding_attention", "full_attention"]
    if layers is not None and layers != [expected[index % 2] for index in range(len(layers))]:
        first = next(index for index, kind in enumerate(layers) if kind != expected[index % 2])
        yield (
            f"config.json: layer_types[{first}] is {layers[first]!r}. TensorRT-LLM ignores the field and gives even "
            "layers sliding-window attention and odd layers full attention, so it would serve another model. Use the "
            "transformers engine."
        )
