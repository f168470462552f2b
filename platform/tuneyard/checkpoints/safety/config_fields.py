"""The fields that each JSON file of a checkpoint may have, and what others would do.

An allow-list, because loaders take fields by name, and new versions take new ones: transformers before 5.3 downloaded
and ran the attention kernel that `_attn_implementation_internal` names, also with trust_remote_code=False
(CVE-2026-4372).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.checkpoints.safety.config_values import value_problems
from tuneyard.core.errors import CheckpointError
from tuneyard.core.wording import printable, short_repr


def _fields(text: str) -> frozenset[str]:
    return frozenset(text.split())


CONFIG_FIELDS = _fields("""
    _name_or_path architectures attention_bias attention_dropout bos_token_id chunk_size_feed_forward dtype eos_token_id
    experts_per_token head_dim hidden_act hidden_size id2label initial_context_length initializer_range
    intermediate_size is_decoder is_encoder_decoder label2id layer_types max_position_embeddings model_type
    num_attention_heads num_experts num_experts_per_tok num_hidden_layers num_key_value_heads num_local_experts
    output_attentions output_hidden_states output_router_logits pad_token_id problem_type quantization_config
    return_dict rms_norm_eps rope_ntk_alpha rope_ntk_beta rope_parameters rope_scaling rope_scaling_factor rope_theta
    router_aux_loss_coef sep_token_id sliding_window swiglu_alpha swiglu_limit tie_word_embeddings tokenizer_class
    torch_dtype torchscript transformers_version use_bfloat16 use_cache vocab_size
""")
"""config.json: what OpenAI publishes in both of its forms, and what transformers 4.57 and 5.x write."""

ROPE_FIELDS = _fields("""
    attention_factor beta_fast beta_slow factor mscale mscale_all_dim original_max_position_embeddings
    partial_rotary_factor rope_theta rope_type truncate type
""")
NESTED_FIELDS = {
    "rope_scaling": ROPE_FIELDS,
    "rope_parameters": ROPE_FIELDS,
    "quantization_config": frozenset({"quant_method", "modules_to_not_convert", "dequantize"}),
}
"""Objects inside config.json. Other quantisations name classes and files."""

GENERATION_FIELDS = _fields("""
    _from_model_config bos_token_id do_sample eos_token_id max_length max_new_tokens min_length min_new_tokens min_p
    pad_token_id presence_penalty repetition_penalty temperature top_k top_p transformers_version typical_p use_cache
""")
TOKENIZER_FIELDS = _fields("""
    add_bos_token add_eos_token add_prefix_space added_tokens_decoder additional_special_tokens backend bos_token
    chat_template clean_up_tokenization_spaces eos_token errors extra_special_tokens is_local local_files_only
    max_length model_input_names model_max_length model_specific_special_tokens name_or_path pad_to_multiple_of
    pad_token pad_token_type_id padding padding_side processor_class return_tensors split_special_tokens stride
    tokenizer_class truncation truncation_side truncation_strategy unk_token
""")
"""tokenizer_config.json. A chat template is carried along for other programs: nothing in Tuneyard renders it."""

ALLOWED_FIELDS = {
    "config.json": CONFIG_FIELDS,
    "generation_config.json": GENERATION_FIELDS,
    "tokenizer_config.json": TOKENIZER_FIELDS,
}
"""Files that loaders take settings from -> the fields that they may have."""

FREE_TEXT = frozenset({"_name_or_path", "name_or_path", "chat_template", "added_tokens_decoder"})
"""Allowed fields whose values may be any text, because no loader acts on it."""

_KERNEL = "transformers would download the kernel that it names from the Hub and run its code"
EFFECTS = {
    "auto_map": "transformers would import and run the Python file that it names",
    "custom_pipelines": "transformers would import and run the Python file that it names",
    "custom_generate": "transformers would run the generation code that it names",
    "trust_remote_code": "it asks loaders to run the Python files of the model",
    "_attn_implementation_internal": f"{_KERNEL} (CVE-2026-4372)",
    "_experts_implementation_internal": _KERNEL,
    "_attn_implementation": _KERNEL,
    "attn_implementation": _KERNEL,
    "experts_implementation": _KERNEL,
    "use_kernels": "transformers would download kernels from the Hub and run their code",
    "kernel_config": _KERNEL,
    "vocab_file": "a loader would read the file that it names in place of this model's vocabulary",
    "tokenizer_file": "a loader would read the file that it names in place of this model's vocabulary",
    "fast_tokenizer_files": "a loader would read the file that it names in place of this model's vocabulary",
}
"""What a loader would do with fields that are known to be dangerous."""

WEIGHTS_INDEX = "model.safetensors.index.json"
FIX = "Remove the field, then delete manifest.json if there is one and run `tuneyard models adopt FOLDER`."


def field_problems(folder: Path) -> Iterator[str]:
    """Yields one message for each field that a loader could act on, and for each weights file that is elsewhere."""
    for name, allowed in ALLOWED_FIELDS.items():
        content = _read(folder / name)
        yield from _unknown_fields(name, content, allowed)
        for field in sorted(content.keys() & allowed - FREE_TEXT):
            yield from _value_problems(name, field, content[field])
    config = _read(folder / "config.json")
    yield from value_problems(config)
    for field, allowed in NESTED_FIELDS.items():
        if isinstance(config.get(field), dict):
            yield from _unknown_fields(f"config.json: {field}", config[field], allowed)
    for path in sorted(folder.glob("*.json")):
        if path.name not in ALLOWED_FIELDS:
            yield from _unknown_fields(
                printable(path.name), {k: v for k, v in _read(path).items() if k in EFFECTS}, frozenset()
            )
    yield from _index_problems(folder)


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one if the file is missing or broken, because then no loader reads it."""
    try:
        # What a link out of the folder names is not read, nor quoted in messages. file_kinds.py reports it.
        is_inside = path.is_file() and path.resolve().is_relative_to(path.parent.resolve())
        return read_json(path) if is_inside else {}
    except CheckpointError:
        return {}


def _unknown_fields(where: str, content: Mapping[str, Any], allowed: frozenset[str]) -> Iterator[str]:
    for field in sorted(content.keys() - allowed):
        effect = EFFECTS.get(field, "it is not a field of GPT-OSS, and a loader may act on it")
        yield f"{where}: {printable(field)} is {short_repr(content[field])}: {effect}. {FIX}"


def _value_problems(name: str, field: str, value: Any) -> Iterator[str]:
    """Texts in allowed fields must not be paths or names on the Hub: loaders resolve those to code."""
    for text in _texts(value):
        if "/" in text or "\\" in text:
            yield (
                f"{name}: {field} is {short_repr(text)}, which is a path or a name on the Hub. A loader could "
                f"fetch it and run its code. Restore the field's published value. {FIX}"
            )


def _texts(value: Any) -> Iterator[str]:
    # No recursion: somebody may have nested the value a thousand times.
    values = [value]
    while values:
        value = values.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            values += [*value, *value.values()]
        elif isinstance(value, list):
            values += value


def _index_problems(folder: Path) -> Iterator[str]:
    weight_map = _read(folder / WEIGHTS_INDEX).get("weight_map")
    if not isinstance(weight_map, dict):
        return
    for file in sorted({str(file) for file in weight_map.values()}):
        if PurePosixPath(file).name != file or "\\" in file or not file.endswith(".safetensors"):
            yield (
                f"{WEIGHTS_INDEX} names the weights file {short_repr(file)}. A loader would read a file outside of "
                "the folder or a pickle. Copy the index again from the model's source."
            )
