"""Checks at the start of the TensorRT-LLM engine: is this version known, and is this the GPU of the config."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from tuneyard.core.errors import ConfigError
from tuneyard.planning.gpus import GPUS
from tuneyard.planning.local_gpus import describe_gpus

CONTRACT = Path(__file__).with_name("tensorrt_llm_contract.json")
"""Everything that the engine uses of tensorrt_llm, per exact version: release candidates of one version differ.

`read` names the sources of a column, `unproved` what no run has shown; a column that has passed on a GPU has none.
"""

logger = logging.getLogger(__name__)


def check_version(version: str) -> None:
    """Warns of what is unproved with this version of TensorRT-LLM. Raises ConfigError if the contract lacks it."""
    columns = json.loads(CONTRACT.read_bytes())
    if version not in columns:
        raise ConfigError(
            f"TensorRT-LLM {version} is installed; this adapter was written for {' and '.join(sorted(columns))}. "
            f"Install 1.2.1, as the serve image does, or add this one to {CONTRACT.name} and run `make test-gpu`."
        )
    if unproved := columns[version].get("unproved"):
        logger.warning("TensorRT-LLM %s: %s. Run `make test-gpu` before you rely on it.", version, unproved)


def stop_usage_reports() -> None:
    """Switches off the usage reports that TensorRT-LLM 1.3 sends to NVIDIA, where the environment does not choose."""
    os.environ.setdefault("TRTLLM_NO_USAGE_STATS", "1")


def check_gpu(name: str) -> None:
    """Raises ConfigError if this replica's GPU is of another generation than `name`, the config's GPU."""
    for gpu in describe_gpus()[:1]:  # without a GPU, TensorRT-LLM's own error is clearer
        if gpu["sm"] != GPUS[name].sm:
            raise ConfigError(
                f"engine.tensorrt_llm.gpu is {name} (SM {GPUS[name].sm}), but this replica got {gpu['name']} "
                f"(SM {gpu['sm']}), which needs other kernels. Change the config, or place the replica on another node."
            )
