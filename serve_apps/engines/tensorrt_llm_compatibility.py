"""Checks at the start of the TensorRT-LLM engine: is this version known, and is this the GPU of the config."""

from __future__ import annotations

import json
from pathlib import Path

from tuneyard.core.errors import ConfigError
from tuneyard.planning.gpus import GPUS
from tuneyard.planning.local_gpus import describe_gpus

CONTRACT = Path(__file__).with_name("tensorrt_llm_contract.json")
"""Everything that the engine uses of tensorrt_llm, per version."""


def check_version(version: str) -> None:
    """Raises ConfigError if the contract does not contain this version of TensorRT-LLM."""
    known = sorted(json.loads(CONTRACT.read_bytes()))
    if version not in known:
        raise ConfigError(
            f"TensorRT-LLM {version} is installed; this adapter was written for {', '.join(known)}. Install that "
            f"version, as the serve image does, or add this one to {CONTRACT.name} and run `make test-gpu`."
        )


def check_gpu(name: str) -> None:
    """Raises ConfigError if this replica's GPU is of another generation than `name`, the config's GPU."""
    for gpu in describe_gpus()[:1]:  # without a GPU, TensorRT-LLM's own error is clearer
        if gpu["sm"] != GPUS[name].sm:
            raise ConfigError(
                f"engine.tensorrt_llm.gpu is {name} (SM {GPUS[name].sm}), but this replica got {gpu['name']} "
                f"(SM {gpu['sm']}), which needs other kernels. Change the config, or place the replica on another node."
            )
