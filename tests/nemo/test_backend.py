"""The NeMo backend: the TrainingBackend contract, and the same loss curve as the transformers backend."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from jobs.workers.backend_factory import create_backend
from tests.jobs.training.backend_contract import RecordingContext, backend_config, check_contract, stored, token_rows
from tests.nemo.loss_curves import STEPS, train_both
from tuneyard.core.errors import ConfigError, TrainingError
from tuneyard.training_data.token_table import IGNORED_LABEL

pytestmark = [pytest.mark.nemo, pytest.mark.usefixtures("nemo_fixes")]

CURVE_TOLERANCE = 5e-4
"""In nats. transformers rounds the losses that it logs to 1e-4."""

LEARNING_STEPS = 120


@pytest.mark.parametrize("method", ["full", "lora"])
def test_contract(tiny_fp32: Path, tmp_path: Path, method: str) -> None:
    config = backend_config(tiny_fp32, name=method, backend="nemo", method=method, learning_rate=0.003)
    check_contract(config, token_rows(tiny_fp32), tmp_path)


def test_contract_with_adapters_on_the_last_layers(tiny_fp32: Path, tmp_path: Path) -> None:
    """Megatron saves one tensor for all layers by default, which adapters on some of them cannot fill."""
    import peft

    lora = {"last_layers": 1}
    config = backend_config(tiny_fp32, name="last-layers", backend="nemo", method="lora", lora=lora, learning_rate=0.01)
    check_contract(config, token_rows(tiny_fp32), tmp_path)
    target = tmp_path / "adapter"
    target.mkdir()
    create_backend(config).export_adapter(config, tmp_path / "one" / "kept-1", target, [])
    adapted = peft.PeftConfig.from_pretrained(target).target_modules
    assert sorted(adapted) == [f"layers.1.self_attn.{name}_proj" for name in "koqv"]


def test_both_backends_have_one_loss_curve(tiny_fp32: Path, tmp_path: Path) -> None:
    """On a base whose attention sinks, YaRN, windows and routing all have an effect."""
    losses = train_both(tiny_fp32, tmp_path)
    assert len(losses["nemo"]) == STEPS
    assert losses["nemo"] == pytest.approx(losses["transformers"], abs=CURVE_TOLERANCE)
    assert losses["nemo"][-1] < 0.6 * losses["nemo"][0]


def test_both_backends_have_one_heldout_loss_at_any_batch_size(tiny_fp32: Path, tmp_path: Path) -> None:
    """The mean over labelled tokens of rows with very different lengths, before a weight has changed."""
    from megatron.core.num_microbatches_calculator import destroy_num_microbatches_calculator

    rows = token_rows(tiny_fp32, 8)
    losses = {}
    for backend, size in (("transformers", 1), ("nemo", 1), ("nemo", 4)):
        config = backend_config(
            tiny_fp32,
            name=f"heldout-{backend}-{size}",
            backend=backend,
            method="full",
            learning_rate=1e-30,
            batch_size_per_worker=size,
            gradient_accumulation_steps=1,
            max_steps=1,
            eval_every_steps=1,
            checkpoint_every_steps=1,
        )
        destroy_num_microbatches_calculator()  # NeMo's batch size holds for a process
        context = RecordingContext(tmp_path / f"{backend}-{size}")
        create_backend(config).train(config, stored(rows, tmp_path / f"tokens-{backend}-{size}"), context)
        losses[backend, size] = context.evaluations[1]
    assert losses["nemo", 1] == pytest.approx(losses["transformers", 1], abs=CURVE_TOLERANCE)
    assert losses["nemo", 4] == pytest.approx(losses["nemo", 1], abs=1e-5)


def test_a_port_that_another_process_took_does_not_end_an_export(
    imported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group of one that ended before left its port in the environment."""
    import torch
    from megatron.core import parallel_state

    from jobs.nemo.connectors.hf_exporter import HFExporter

    # Megatron's groups of an earlier test would be used after torch's had gone.
    parallel_state.destroy_model_parallel()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        model, _ = HFExporter(str(imported)).nemo_load(imported)
    assert model.state_dict()


def test_layer_offload_does_not_change_the_logits(imported: Path, tiny_fp32: Path) -> None:
    """A copy of each layer stands in for the GPU."""
    import numpy as np
    import torch
    from megatron.core.transformer.transformer_layer import TransformerLayer

    from jobs.nemo.connectors.hf_exporter import HFExporter
    from jobs.nemo.export import label_logits
    from jobs.nemo.layer_offload import layers_on_device, offloadable_modules

    model, _ = HFExporter(str(imported)).nemo_load(imported)
    model = model.float().eval()
    modules = offloadable_modules(model, TransformerLayer)
    sizes = [sum(t.nbytes for t in (*module.parameters(), *module.buffers())) for module in modules]
    assert sum(sizes) == sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    rows = token_rows(tiny_fp32, 2).rows.to_pylist()
    expected = label_logits(model, rows)
    with layers_on_device(modules, torch.clone):
        logits = label_logits(model, rows)
    assert all(np.array_equal(a, b) for a, b in zip(expected, logits, strict=True))


def test_the_exported_merged_model_answers_trained_questions(tiny_fp32: Path, tmp_path: Path) -> None:
    """LoRA in NeMo memorises two chats; the export in transformers completes their prompts with their answers."""
    import torch
    import transformers

    rows = token_rows(tiny_fp32, 2)
    config = backend_config(
        tiny_fp32,
        name="by-heart",
        backend="nemo",
        method="lora",
        lora={"rank": 32, "alpha": 64},
        learning_rate=0.01,
        max_steps=LEARNING_STEPS,
        checkpoint_every_steps=LEARNING_STEPS,
        eval_every_steps=LEARNING_STEPS,
    )
    context = RecordingContext(tmp_path / "run")
    create_backend(config).train(config, stored(rows, tmp_path / "tokens"), context)
    target = tmp_path / "export"
    target.mkdir()
    torch.backends.cuda.matmul.allow_tf32 = True
    create_backend(config).export_hf(config, context.checkpoints[-1], target, [])
    assert not torch.backends.cuda.matmul.allow_tf32, "a GPU would compare logits of TF32"
    model = transformers.GptOssForCausalLM.from_pretrained(target, attn_implementation="eager").eval()
    for row in rows.rows.to_pylist():
        start = next(index for index, label in enumerate(row["labels"]) if label != IGNORED_LABEL)
        prompt = torch.tensor([row["input_ids"][:start]])
        answer = row["input_ids"][start:]
        generated = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=len(answer), do_sample=False
        )
        assert generated[0, start:].tolist() == answer


def test_a_loss_that_is_not_finite_ends_the_run_with_the_fix(tiny_fp32: Path, tmp_path: Path) -> None:
    config = backend_config(
        tiny_fp32, name="nan", backend="nemo", method="full", learning_rate=1e30, max_grad_norm=1e30, warmup_ratio=0
    )
    tokens = stored(token_rows(tiny_fp32), tmp_path / "tokens")
    with pytest.raises(
        TrainingError, match=r"(gradients are not finite|The loss is (nan|inf)).*training.learning_rate"
    ):
        create_backend(config).train(config, tokens, RecordingContext(tmp_path / "run"))


def test_parallelism_that_cannot_run_is_refused_before_the_base_is_touched(tiny_fp32: Path) -> None:
    from jobs.nemo_recipe import build_recipe

    config = backend_config(tiny_fp32, backend="nemo")
    config = config.model_copy(update={"nemo": config.nemo.model_copy(update={"expert_parallel": 3})})
    with pytest.raises(ConfigError, match=r"1 workers are not a multiple of expert 3"):
        build_recipe(config)
