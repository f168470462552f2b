"""NeMo on a GPU, in the train image: the backend's contract with TransformerEngine and the distributed optimizer.

The contract trains, resumes from a checkpoint of the distributed optimizer, exports with TransformerEngine's layers,
and compares the export with the trained model in transformers.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.training.backend_contract import backend_config, check_contract, token_rows
from tests.nemo.conftest import nemo_fixes, tiny_fp32  # noqa: F401
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.planning.local_gpus import describe_gpus

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        importlib.util.find_spec("nemo") is None, reason="NeMo is not installed: run this in the train image"
    ),
]


def on_this_machine(config: FinetuneConfig) -> FinetuneConfig:
    """The config on this machine's first GPU; on CPUs without one, which only a rehearsal of this file does."""
    import torch

    workers = config.workers.model_copy(update={"use_gpu": torch.cuda.is_available()})
    return config.model_copy(update={"workers": workers})


@pytest.mark.usefixtures("nemo_fixes", "fresh_megatron")
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_contract(
    method: str,
    precision: str,
    tiny_fp32: Path,  # noqa: F811
    tmp_path: Path,
    record: Callable[[str, dict[str, Any]], None],
) -> None:
    training = {"method": method, "precision": precision, "learning_rate": 0.003}
    config = on_this_machine(backend_config(tiny_fp32, name="gpu", backend="nemo", **training))
    started = time.monotonic()
    check_contract(config, token_rows(tiny_fp32), tmp_path)
    record(f"nemo-{method}-{precision}", {"seconds": round(time.monotonic() - started, 1), "gpus": describe_gpus()})
