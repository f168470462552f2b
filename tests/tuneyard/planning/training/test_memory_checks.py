"""A run that does not fit its GPUs is refused with both numbers and with changes that make it fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tuneyard.planning.training.test_memory_plan import config_of
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import ConfigError
from tuneyard.planning.training.memory_checks import check_training_memory
from tuneyard.planning.training.memory_plan import BatchShape

BASE = json.loads((Path(__file__).parents[3] / "gpu" / "gpt_oss_20b_config.json").read_text(encoding="utf-8"))


def on(gpu: str, model: dict[str, Any] | None = None, **training: Any) -> FinetuneConfig:
    config = config_of(model or {}, training)
    return config.model_copy(update={"workers": config.workers.model_copy(update={"accelerator_type": gpu})})


@pytest.mark.parametrize(
    ("config", "batch", "numbers", "way"),
    [
        (on("H100", method="full"), (1, 2048, 1024), r"312.\d GiB .* a H100 has 79.1", "training.method: lora"),
        (on("H100", precision="fp32"), (1, 2048, 1024), r"8\d.\d GiB", "training.precision: bf16"),
        (on("H100", gradient_checkpointing=False), (4, 2048, 2048), r"9\d.\d GiB", "gradient_checkpointing: true"),
        (
            on("A100", {"attention_implementation": "eager"}),
            (2, 8192, 4096),
            r"8\d.\d GiB|9\d.\d GiB|1\d\d.\d GiB",
            "attention_implementation: flex_attention",
        ),
        (on("L40S"), (1, 2048, 1024), r"41.\d GiB on each GPU, but a L40S has 44.3 GiB", "accelerator_type: A100"),
    ],
)
def test_a_run_beyond_the_gpu_is_refused(
    config: FinetuneConfig, batch: tuple[int, int, int], numbers: str, way: str
) -> None:
    with pytest.raises(ConfigError, match=numbers) as caught:
        check_training_memory(config, BASE, BatchShape(*batch))
    assert way in str(caught.value)


def test_several_gpus_are_offered_to_share_the_model() -> None:
    config = on("L40S")
    eight = config.model_copy(update={"workers": config.workers.model_copy(update={"num_workers": 8})})
    for workers, is_offered in ((config, False), (eight, True)):
        with pytest.raises(ConfigError) as caught:
            check_training_memory(workers, BASE, BatchShape(1, 2048, 1024))
        assert ("training.sharding: fsdp2" in str(caught.value)) is is_offered
    sharded = eight.model_copy(update={"training": eight.training.model_copy(update={"sharding": "fsdp2"})})
    assert check_training_memory(sharded, BASE, BatchShape(1, 2048, 1024)).peak < 20 * 2**30


def test_held_out_rows_that_do_not_fit_are_refused() -> None:
    config = on("H100")
    short, long = BatchShape(16, 256, 128), BatchShape(16, 2048, 2048)
    check_training_memory(config, BASE, short)
    with pytest.raises(
        ConfigError, match=r"an evaluation, instead of the last two: 61\.4 GiB.*batch_size_per_worker: 1"
    ):
        check_training_memory(config, BASE, short, long)


@given(rows=st.integers(1, 16), length=st.integers(16, 16384), share=st.floats(0, 1), checkpointing=st.booleans())
@settings(max_examples=60)
def test_more_never_takes_less(rows: int, length: int, share: float, checkpointing: bool) -> None:
    config = on("B200", gradient_checkpointing=checkpointing)
    small, large = BatchShape(rows, length, int(share * length)), BatchShape(rows + 1, length + 1, int(share * length))
    peaks = []
    for batch in (small, large):
        try:
            peaks.append(check_training_memory(config, BASE, batch).peak)
        except ConfigError as e:
            assert "B200" in str(e)
            peaks.append(10**15)
    assert peaks[0] <= peaks[1]


def test_nothing_is_refused_on_a_gpu_that_is_not_known() -> None:
    config = config_of({}, {"method": "full"})
    assert check_training_memory(config, BASE, BatchShape(64, 8192, 8192)).peak > 0
