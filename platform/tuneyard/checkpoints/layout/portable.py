"""Rewrites a checkpoint's config and tokenizer config so that transformers 4.57 and 5.x load them alike."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuneyard.checkpoints.layout.gpt_oss import TOKENIZER_CLASS, read_json
from tuneyard.core.errors import CheckpointError


def make_config_portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with rope fields that transformers 4.57 and 5.x both read, and read alike.

    5.x's `rope_parameters` wins where both are there. Raises CheckpointError if there are none at all.
    """
    portable = copy.deepcopy(dict(config))
    parameters = portable.get("rope_parameters") or dict(portable.get("rope_scaling") or {})
    if "rope_theta" not in parameters and portable.get("rope_theta") is not None:
        parameters["rope_theta"] = portable["rope_theta"]
    if "rope_theta" not in parameters or "rope_type" not in parameters:
        raise CheckpointError(
            f"config.json: no rope_parameters, nor rope_theta with rope_scaling (found {parameters}). "
            "Loaders would take defaults that need not be this model's."
        )
    portable["rope_parameters"] = parameters
    portable["rope_theta"] = parameters["rope_theta"]
    portable["rope_scaling"] = {key: value for key, value in parameters.items() if key != "rope_theta"}
    return portable


def make_checkpoint_portable(folder: Path) -> None:
    """Rewrites config.json and tokenizer_config.json in place so that transformers 4.57 and 5.x load them alike.

    Call it before write_manifest. Raises CheckpointError if a file is missing or broken.
    """
    folder = Path(folder)
    _write_json(folder / "config.json", make_config_portable(read_json(folder / "config.json")))
    tokenizer = read_json(folder / "tokenizer_config.json")
    tokenizer["tokenizer_class"] = TOKENIZER_CLASS
    # 5.x writes these; `backend` and the paths mean nothing elsewhere, and 4.57 dies of a list in extra_special_tokens.
    for key in ("backend", "is_local", "local_files_only"):
        tokenizer.pop(key, None)
    if isinstance(tokenizer.get("extra_special_tokens"), list):
        tokenizer["additional_special_tokens"] = tokenizer.pop("extra_special_tokens")
    _write_json(folder / "tokenizer_config.json", tokenizer)


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
