"""Rewrites a checkpoint's config files so that transformers 4.57 and 5.x load the same model from them.

TensorRT-LLM pins transformers 4.57.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuneyard.checkpoints.layout.json_files import read_json, write_json
from tuneyard.core.errors import CheckpointError

TOKENIZER_CLASS = "PreTrainedTokenizerFast"
"""The `tokenizer_class` that both transformers 4.57 and 5.x load."""


def make_config_portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config with the rope fields of both transformers 4.57 and 5.x, set to the same values.

    `rope_parameters` (5.x) takes precedence over `rope_scaling` and `rope_theta` (4.57). Raises CheckpointError if
    the config has neither.
    """
    portable = copy.deepcopy(dict(config))
    parameters = portable.get("rope_parameters") or dict(portable.get("rope_scaling") or {})
    if "rope_theta" not in parameters and portable.get("rope_theta") is not None:
        parameters["rope_theta"] = portable["rope_theta"]
    if "rope_theta" not in parameters or "rope_type" not in parameters:
        raise CheckpointError(
            f"config.json has no rope_parameters and no rope_theta with rope_scaling (found {parameters}). Loaders "
            "would use defaults that may not be this model's. Copy config.json again from the model's source."
        )
    portable["rope_parameters"] = parameters
    portable["rope_theta"] = parameters["rope_theta"]
    portable["rope_scaling"] = {key: value for key, value in parameters.items() if key != "rope_theta"}
    return portable


def make_checkpoint_portable(folder: Path) -> None:
    """Rewrites config.json and tokenizer_config.json in place. Call it before write_manifest, which hashes them.

    Raises CheckpointError if a file is missing or broken.
    """
    folder = Path(folder)
    write_json(folder / "config.json", make_config_portable(read_json(folder / "config.json")))
    tokenizer = read_json(folder / "tokenizer_config.json")
    tokenizer["tokenizer_class"] = TOKENIZER_CLASS
    # transformers 5.x writes these fields. They have no meaning on another machine.
    for key in ("backend", "is_local", "local_files_only"):
        tokenizer.pop(key, None)
    # transformers 4.57 fails on a list in extra_special_tokens.
    if isinstance(tokenizer.get("extra_special_tokens"), list):
        tokenizer["additional_special_tokens"] = tokenizer.pop("extra_special_tokens")
    write_json(folder / "tokenizer_config.json", tokenizer)
