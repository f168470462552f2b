"""Tuneyard's checkpoints in the transformers that TensorRT-LLM 1.2.1 pins: they load, with the logits of 5.x."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from jobs.checkpoints.openai_export import export_openai
from jobs.checkpoints.proved_export import export_and_prove
from jobs.checkpoints.quantisation import Quantisation, quantise_checkpoint
from jobs.workers.backend_factory import create_backend
from tests.compat.load_logits import hugging_face_logits
from tests.jobs.training.backend_contract import RecordingContext, backend_config, stored, token_rows
from tuneyard.checkpoints.manifest import BaseReference
from tuneyard.checkpoints.tensor_table import weights_digest
from tuneyard.training_data.token_table import TOKEN_COLUMNS

pytestmark = pytest.mark.compat

PYTHON = Path(".venv-compat/bin/python").absolute()
PINNED = "4.57.3"


@pytest.fixture(scope="module")
def finetuned(tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA run of six steps, exported with transformers 5.x as in jobs.finetune."""
    folder = tmp_path_factory.mktemp("finetuned")
    rows = token_rows(tiny_oss)
    config = backend_config(tiny_oss)
    context = RecordingContext(folder / "run")
    create_backend(config).train(config, stored(rows, folder / "tokens"), context)
    probes = rows.rows.slice(0, 2).select(list(TOKEN_COLUMNS)).to_pylist()
    lineage: dict[str, Any] = {"base": BaseReference(name="tiny", digest=weights_digest(tiny_oss))}
    export_and_prove(create_backend(config), config, context.checkpoints[-1], str(folder / "m" / "1"), probes, lineage)
    return folder / "m" / "1"


@pytest.fixture(scope="module")
def quantised(finetuned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("quantised") / "1"
    quantise_checkpoint(
        Quantisation(finetuned, str(target), "q", "jobs/data/brindle_heldout.jsonl", 4, max_loss_increase=1.0)
    )
    return target


def load_in_pinned(tmp_path: Path, *folders: Path) -> Any:
    """The results of load_logits.py in .venv-compat."""
    assert PYTHON.is_file(), "run these tests with `make test-compat`, which creates their environment"
    output = tmp_path / "results.npz"
    script = Path(__file__).with_name("load_logits.py")
    subprocess.run([PYTHON, script, output, *folders], check=True, cwd=tmp_path, timeout=300)
    with np.load(output) as results:
        return dict(results)


def check_same(results: Any, folder: Path) -> None:
    """Checks the version, that logits are equal within fp32 rounding, and the tokenizer's ids."""
    assert str(results["version"]) == PINNED
    assert transformers.__version__.startswith("5.")
    ours = hugging_face_logits(folder)
    assert ours.std() > 0.5
    assert np.abs(ours - results["logits"]).max() <= 1e-4
    ids = transformers.AutoTokenizer.from_pretrained(folder)("Grüße, <|start|> 42!")["input_ids"]
    assert results["ids"].tolist() == ids


def test_a_base_and_a_finetuned_checkpoint(tiny_oss: Path, finetuned: Path, tmp_path: Path) -> None:
    base = load_in_pinned(tmp_path, tiny_oss)
    check_same(base, tiny_oss)
    tuned = load_in_pinned(tmp_path, finetuned)
    check_same(tuned, finetuned)
    assert np.abs(base["logits"] - tuned["logits"]).max() > 0.01


def test_mxfp4_and_openais_original_format(quantised: Path, tmp_path: Path) -> None:
    """OpenAI's reference implementation reads jobs.export_openai's files and gives the same logits."""
    export_openai(quantised, tmp_path / "original")
    results = load_in_pinned(tmp_path, quantised, tmp_path / "original")
    check_same(results, quantised)
    assert np.abs(results["reference"] - results["logits"]).max() <= 1e-3


def test_a_config_that_only_5_reads_is_detected(tiny_oss_copy: Path, tmp_path: Path) -> None:
    """Shows that these tests can fail: without its own field names, 4.57 uses its default RoPE values."""
    path = tiny_oss_copy / "config.json"
    config = json.loads(path.read_text())
    config["rope_parameters"] |= {"rope_theta": 1000.0, "factor": 4.0}
    del config["rope_theta"], config["rope_scaling"]
    path.write_text(json.dumps(config))
    results = load_in_pinned(tmp_path, tiny_oss_copy)
    assert np.abs(hugging_face_logits(tiny_oss_copy) - results["logits"]).max() > 0.01


def test_torch_is_the_same_on_both_sides() -> None:
    """With another torch, the tolerances above would measure differences between kernels."""
    finished = subprocess.run(
        [PYTHON, "-c", "import torch; print(torch.__version__)"], check=True, capture_output=True, text=True
    )
    assert finished.stdout.strip() == torch.__version__
