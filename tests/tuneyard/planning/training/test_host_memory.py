"""The planned main memory against what processes on a CPU took: loading, training and exporting a random model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from safetensors.torch import save_file

from tests.jobs.training.backend_contract import backend_config, stored
from tests.mxfp4_base import download_mxfp4
from tuneyard.arithmetic.cpu_products import KERNEL_BYTES
from tuneyard.checkpoints.layout.gpt_oss import expected_tensors
from tuneyard.planning.training.host_memory import PROCESS_BYTES, host_memory
from tuneyard.planning.training.memory_plan import BatchShape
from tuneyard.training_data.token_table import TokenTable

SIZES = {
    "hidden_size": 512,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    "num_local_experts": 12,
    "layer_types": ["sliding_attention", "full_attention"] * 3,
}
"""Of a model of 60 million parameters: large beside what a process takes anyway."""


@pytest.fixture(scope="module")
def bases(tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model in bf16 (`plain`) and in the published form (`published`)."""
    folder = tmp_path_factory.mktemp("bases")
    plain = folder / "plain"
    plain.mkdir()
    for path in tiny_oss.glob("*.json"):
        if path.name != "manifest.json":
            (plain / path.name).write_bytes(path.read_bytes())
    config = json.loads((tiny_oss / "config.json").read_text()) | SIZES
    (plain / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    tensors = {
        name: (torch.randn(shape) * 0.02 + name.endswith("norm.weight")).to(torch.bfloat16)
        for name, shape in expected_tensors(config).items()
    }
    save_file(tensors, plain / "model.safetensors", {"format": "pt"})
    download_mxfp4(plain, folder / "published")
    return folder


def measured(step: str, base: Path) -> int:
    """Bytes that a process takes for the step, beyond its imports."""
    command = [sys.executable, "-m", "tests.tuneyard.planning.training.peak_memory", step, str(base)]
    environment = {
        "PYTHONPATH": "platform:.",
        "OMP_NUM_THREADS": "1",
        "HOME": str(base.parent),
        # glibc returns the memory of large tensors at once, and by default keeps that of tensors as small as these.
        "MALLOC_MMAP_THRESHOLD_": "131072",
        # MKL's products, for the memory of oneDNN's code depends on the CPU and on the shapes.
        "ATEN_CPU_CAPABILITY": "avx2",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout.splitlines()[-1]))


def planned(field: str, base: Path, *, use_gpu: bool = False, **training: Any) -> int:
    """Bytes that the plan has for a process, beyond its imports."""
    config = json.loads((base / "config.json").read_text())
    run = backend_config(base, **training)
    run = run.model_copy(update={"workers": run.workers.model_copy(update={"use_gpu": use_gpu})})
    memory = host_memory(run, config, BatchShape(4, 64, 32))
    trains = field == "first_worker" and not use_gpu
    return int(getattr(memory, field)) - PROCESS_BYTES - (KERNEL_BYTES if trains else 0)


@pytest.mark.parametrize("form", ["plain", "published"])
def test_loading(bases: Path, form: str) -> None:
    """In fp32. With GPUs, main memory is for loading only."""
    plan = planned("first_worker", bases / form, use_gpu=True, precision="fp32")
    assert plan == pytest.approx(measured("load", bases / form), rel=0.15)


def test_exporting(bases: Path) -> None:
    """A checkpoint of full finetuning has the form of `plain`. The export and the proof hold one copy of the model."""
    assert planned("export", bases / "plain", method="full") == pytest.approx(
        measured("export", bases / "plain"), rel=0.15
    )


def test_training_on_cpus(bases: Path) -> None:
    row = {"input_ids": [40] * 64, "labels": [-100] * 32 + [40] * 32, "position_ids": [*range(64)]}
    table = datasets.Dataset.from_list([row | {"segment_ids": [0] * 64, "source": "a"}] * 8).data.table
    if not (bases / "tokens").exists():
        stored(TokenTable(table, []), bases / "tokens")
    base = bases / "plain"
    assert planned("first_worker", base, method="full") == pytest.approx(measured("train", base), rel=0.15)
