"""What null fields of a run stand for on GPUs and on CPUs, and what of adapters and attention is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tuneyard.configs.finetune import FinetuneConfig


def run(use_gpu: bool, model: dict[str, Any] | None = None, **training: Any) -> FinetuneConfig:
    return FinetuneConfig.model_validate(
        {
            "run": {"name": "r", "model_name": "m"},
            "model": {"base": "b", **(model or {})},
            "data": {"train": "t"},
            "training": training,
            "workers": {"use_gpu": use_gpu},
        }
    )


def test_gpus_train_in_bf16_with_gradient_checkpointing_and_cpus_in_fp32_without() -> None:
    assert (run(True).precision, run(True).uses_gradient_checkpointing) == ("bf16", True)
    assert (run(False).precision, run(False).uses_gradient_checkpointing) == ("fp32", False)
    assert run(True, precision="fp32", gradient_checkpointing=False).precision == "fp32"
    assert not run(True, gradient_checkpointing=False).uses_gradient_checkpointing
    assert run(False, gradient_checkpointing=True).uses_gradient_checkpointing


@pytest.mark.parametrize(
    ("use_gpu", "model", "training", "message"),
    [
        (False, {"attention_implementation": "flex_attention"}, {}, "needs workers.use_gpu: true"),
        (True, {}, {"lora": {"experts": True, "dropout": 0.1}}, "dropout=0.1 cannot be combined with training.lora.ex"),
        (True, {}, {"backend": "nemo", "gradient_checkpointing": True}, "support training.gradient_checkpointing"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    use_gpu: bool, model: dict[str, Any], training: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(use_gpu, model, **training)
