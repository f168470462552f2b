"""NeMo with the first two layers of 20B's shapes: import, LoRA with times and peak memory, export and its proof."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from tests.gpu.random_gpt_oss import build_on_gpu, free_gpu, peak_gib, published_config
from tests.gpu.training_run import LastStepError, TimedContext, gpu_config, random_rows
from tests.jobs.training.backend_contract import RecordingContext, stored
from tests.nemo.conftest import nemo_fixes  # noqa: F401
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.training_data.token_table import TOKEN_COLUMNS, TokenTable

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        importlib.util.find_spec("nemo") is None, reason="NeMo is not installed: run this in the train image"
    ),
    pytest.mark.usefixtures("fresh_megatron"),
]
Record = Callable[[str, dict[str, Any]], None]
LAYERS, STEPS = 2, 6


@pytest.fixture(scope="module")
def base(nemo_fixes: list[str], tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A checkpoint of 20B's shapes with LAYERS layers and random weights in bf16, 5.5 GB. Its tokenizer is not used."""
    assert nemo_fixes
    folder = tmp_path_factory.mktemp("slice")
    for path in tiny_oss.glob("*token*.json"):
        shutil.copy(path, folder)
    build_on_gpu(published_config(LAYERS)).save_pretrained(folder)
    free_gpu()
    return folder


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Storage that all runs share: the base is imported once."""
    return tmp_path_factory.mktemp("storage")


def slice_config(base: Path, storage: Path, name: str, rows: int = 1, **training: Any) -> FinetuneConfig:
    settings = {"backend": "nemo", "batch_size_per_worker": rows, "max_steps": STEPS, "learning_rate": 1e-3}
    return gpu_config(
        run={"name": name, "storage": str(storage)},
        model={"base": str(base)},
        training={**settings, **training},
        nemo={"pipeline_parallel": 1, "expert_parallel": 1},
    )


def train(config: FinetuneConfig, rows: int, length: int, context: RecordingContext, folder: Path) -> dict[str, Any]:
    """Trains on rows of `length` tokens: losses, the seconds of all but the first steps, peak memory, the plan's."""
    from jobs.nemo.backend import NemoBackend

    table = random_rows([length] * rows * STEPS)
    tokens = stored(TokenTable(table, []), folder / "tokens")
    free_gpu()
    started = time.monotonic()
    with contextlib.suppress(LastStepError):
        NemoBackend().train(config, tokens, context)
    result: dict[str, Any] = {"seconds": round(time.monotonic() - started, 1), "losses": context.losses}
    if isinstance(context, TimedContext):
        result["seconds_by_step"] = [round(b - a, 3) for a, b in zip(context.times, context.times[1:], strict=False)]
        late = context.times[-1] - context.times[STEPS // 2 - 1]
        of_a_step = pc.sum(pc.list_value_length(table["input_ids"])).as_py() / STEPS
        result["tokens_per_s"] = round((STEPS - STEPS // 2) * of_a_step / late, 1)
    return result | peak_gib()


def test_lora_and_export(base: Path, storage: Path, record: Record, tmp_path: Path) -> None:
    """The export's proof runs the merged model in fp32, layer by layer on the GPU, with TransformerEngine's kernels."""
    import torch
    import transformers

    from jobs.nemo.backend import NemoBackend
    from jobs.training.label_logits import label_logits
    from jobs.training.logit_proof import compare_logits

    config = slice_config(base, storage, "export")
    context = RecordingContext(tmp_path / "work")
    result = {"layers": LAYERS, "rows": 1, "tokens_per_row": 1024, **train(config, 1, 1024, context, tmp_path)}
    record("nemo-slice-export", result)
    assert context.losses[-1] < context.losses[0]
    target = tmp_path / "export"
    target.mkdir()
    probes = random_rows([256, 512], seed=1).select(list(TOKEN_COLUMNS)).to_pylist()
    free_gpu()
    started = time.monotonic()
    logits = NemoBackend().export_hf(config, context.checkpoints[-1], target, probes)
    result |= {"export_s": round(time.monotonic() - started, 1)}
    result |= {f"export_{name}": value for name, value in peak_gib().items()}
    free_gpu()
    with torch.device("cuda"):
        exported = transformers.AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32).cuda().eval()
    result["proof"] = compare_logits(logits, label_logits(exported, probes))
    record("nemo-slice-export", result)
    assert result["proof"]["mean_kl"] < 0.01


@pytest.mark.parametrize(("rows", "length"), [(1, 2048), (1, 4096), (4, 2048)], ids=lambda value: str(value))
def test_lora(rows: int, length: int, base: Path, storage: Path, record: Record, tmp_path: Path) -> None:
    name = f"lora-{rows}x{length}"
    config = slice_config(base, storage, name, rows)
    result = train(config, rows, length, TimedContext(tmp_path / "work"), tmp_path)
    record(f"nemo-slice-{name}", {"layers": LAYERS, "rows": rows, "tokens_per_row": length, **result})
    assert result["losses"][-1] < result["losses"][0] + 0.5


def test_full(base: Path, storage: Path, record: Record, tmp_path: Path) -> None:
    config = slice_config(base, storage, "full", method="full", learning_rate=1e-5)
    result = train(config, 1, 2048, TimedContext(tmp_path / "work"), tmp_path)
    record("nemo-slice-full-1x2048", {"layers": LAYERS, "rows": 1, "tokens_per_row": 2048, **result})
