"""What an export takes from its base: the dtype of each tensor, and the files beside the weights."""

from __future__ import annotations

import shutil
from pathlib import Path

from tuneyard.checkpoints.layout.json_files import read_json, write_json
from tuneyard.checkpoints.layout.portable import make_checkpoint_portable
from tuneyard.checkpoints.layout.safetensors_header import read_header
from tuneyard.core.errors import CheckpointError

CONFIG_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
"""dtype in a safetensors header -> the same dtype in config.json and in torch."""

COPIED_FILES = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
"""Files of the base that an export gets unchanged. generation_config.json holds the ids at which other servers stop."""


def exported_dtypes(base: Path) -> dict[str, str]:
    """The dtype of each tensor of an unquantised model with the dtypes of `base`, as safetensors spells it.

    Read from the weights, because the config.json that OpenAI publishes names no dtype. MXFP4 experts get the dtype of
    lm_head. Raises CheckpointError if the base has no lm_head in a floating-point dtype.
    """
    stored: dict[str, str] = {}
    for path in sorted(base.glob("*.safetensors")):
        with path.open("rb") as file:
            stored |= {name: spec["dtype"] for name, spec in read_header(path, file)[0].items()}
    main = stored.get("lm_head.weight", "")
    if main not in CONFIG_DTYPES:
        raise CheckpointError(
            f"{base}: the dtype of lm_head.weight is {main or 'unknown, because no file holds it'}; it must be one of "
            f"{', '.join(CONFIG_DTYPES)}. Download the base again."
        )
    dtypes = {name: dtype for name, dtype in stored.items() if not name.endswith(("_blocks", "_scales"))}
    return dtypes | {name.removesuffix("_blocks"): main for name in stored if name.endswith("_blocks")}


def write_base_configuration(base: Path, target: Path) -> None:
    """Writes config.json, generation_config.json and the tokenizer of `base` to `target`, for unquantised weights.

    config.json names the dtype of the weights. Raises CheckpointError if a file of the base is missing or broken.
    """
    for name in COPIED_FILES:
        if (base / name).is_file():
            shutil.copyfile(base / name, target / name)
    config = read_json(base / "config.json")
    config.pop("quantization_config", None)
    config.pop("torch_dtype", None)
    config["dtype"] = CONFIG_DTYPES[exported_dtypes(base)["lm_head.weight"]]
    write_json(target / "config.json", config)
    make_checkpoint_portable(target)
