"""The planned memory against what an H100 took, and against what autograd saves on a CPU."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from jobs.training.lora_targets import lora_config
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.resources import GIB
from tuneyard.planning.training.memory_plan import SCORE_COPIES, BatchShape, layer_activations, training_memory

GPU_TESTS = Path(__file__).parents[3] / "gpu"
MEASURED = sorted(path for path in (GPU_TESTS / "results").glob("*.json") if '"length"' in path.read_text())
"""Results of single runs of training."""


def config_of(model: dict[str, Any], training: dict[str, Any], use_gpu: bool = True) -> FinetuneConfig:
    sections = {
        "run": {"name": "r", "model_name": "m"},
        "model": {"base": "b", **model},
        "data": {"train": "t"},
        "training": training,
        "workers": {"use_gpu": use_gpu},
    }
    return FinetuneConfig.model_validate(sections)


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: path.stem)
def test_the_plan_is_within_five_percent_of_an_h100s_peak(path: Path) -> None:
    """Half of each row has labels. What lies beyond weights and trained state is within 20 %."""
    found = json.loads(path.read_text(encoding="utf-8"))
    base = json.loads((GPU_TESTS / "gpt_oss_20b_config.json").read_text(encoding="utf-8"))
    base |= {"num_hidden_layers": 2} if path.stem.startswith("slice") else {}
    training = {name: found[name] for name in ("lora", "gradient_checkpointing") if name in found}
    model = {name: found[name] for name in ("attention_implementation",) if name in found}
    config = config_of(model, training | found.get("config", {}))
    batch = BatchShape(found.get("rows", 1), found["length"], found["length"] // 2)
    memory = training_memory(config, base, batch)
    assert memory.peak / GIB == pytest.approx(found["peak_allocated_gib"], rel=0.05)
    fixed = memory.weights + memory.state
    assert (memory.peak - fixed) / GIB == pytest.approx(found["peak_allocated_gib"] - fixed / GIB, rel=0.2)


def test_several_workers_hold_buffers_for_gradients_too() -> None:
    base = json.loads((GPU_TESTS / "gpt_oss_20b_config.json").read_text(encoding="utf-8"))
    one = config_of({}, {"lora": {"experts": True}})
    two = one.model_copy(update={"workers": one.workers.model_copy(update={"num_workers": 2})})
    alone, together = (training_memory(config, base, BatchShape(1, 64, 8)) for config in (one, two))
    assert together.peak - alone.peak == alone.gradients == 4 * 184_909_824


def sharded(config: FinetuneConfig, workers: int) -> FinetuneConfig:
    """The config with FSDP2 on so many workers."""
    return config.model_copy(
        update={
            "training": config.training.model_copy(update={"sharding": "fsdp2"}),
            "workers": config.workers.model_copy(update={"num_workers": workers}),
        }
    )


@pytest.mark.parametrize("training", [{}, {"lora": {"experts": True}}, {"method": "full"}])
@pytest.mark.parametrize("workers", [1, 2, 8, 12])
def test_workers_of_a_sharded_run_hold_a_part_each(training: dict[str, Any], workers: int) -> None:
    base = json.loads((GPU_TESTS / "gpt_oss_20b_config.json").read_text(encoding="utf-8"))
    one = config_of({}, training)
    whole = training_memory(one, base, BatchShape(1, 64, 8))
    part = training_memory(sharded(one, workers), base, BatchShape(1, 64, 8))
    # 32 experts are not divided evenly among 12 workers: some have three, and 36 are gathered.
    excess = 12 * 3 / 32 if workers == 12 else 1
    for field in ("weights", "state", "gradients"):
        assert getattr(part, field) == pytest.approx(excess * getattr(whole, field) / workers, rel=0.13), field
    assert (part.activations, part.layer, part.logits) == (whole.activations, whole.layer, whole.logits)
    # Two of 24 layers in bf16 (LoRA), or in fp32 with their gradients.
    two_layers = 12.3 if training == {"method": "full"} else 3.1
    assert part.gathered_layers / GIB == pytest.approx(excess * two_layers, rel=0.05)
    assert whole.gathered_layers == whole.gathered_head == 0


@pytest.mark.parametrize("training", [{}, {"method": "full"}])
@pytest.mark.parametrize(("workers", "padded"), [(8, 32), (12, 36), (32, 32), (33, 33), (48, 48), (64, 64)])
def test_gathered_layers_are_padded_to_equal_parts(training: dict[str, Any], workers: int, padded: int) -> None:
    """FSDP2 makes the 32 experts divisible by the number of workers. They are 97 % of a layer or more."""
    base = json.loads((GPU_TESTS / "gpt_oss_20b_config.json").read_text(encoding="utf-8"))
    batch = BatchShape(1, 64, 8)
    even, plan = (training_memory(sharded(config_of({}, training), n), base, batch) for n in (1, workers))
    assert plan.gathered_layers == pytest.approx(even.gathered_layers * padded / 32, rel=0.04)
    assert plan.gathered_layers >= even.gathered_layers


def test_an_elastic_run_is_planned_for_the_padding_of_its_most_workers() -> None:
    """With 32 to 64 workers each has one of 32 experts, if any; but 64 experts are gathered at the end."""
    base = json.loads((GPU_TESTS / "gpt_oss_20b_config.json").read_text(encoding="utf-8"))
    batch = BatchShape(1, 64, 8)
    most = sharded(config_of({}, {}), 64)
    elastic = most.model_copy(update={"workers": most.workers.model_copy(update={"min_workers": 32})})
    few, many = (training_memory(sharded(config_of({}, {}), n), base, batch) for n in (32, 64))
    assert training_memory(elastic, base, batch).peak == many.peak > few.peak


def test_an_elastic_run_is_planned_for_its_fewest_workers() -> None:
    base = json.loads((GPU_TESTS / "gpt_oss_20b_config.json").read_text(encoding="utf-8"))
    eight = sharded(config_of({}, {}), 8)
    elastic = eight.model_copy(update={"workers": eight.workers.model_copy(update={"min_workers": 2})})
    batch = BatchShape(1, 64, 8)
    two = training_memory(sharded(config_of({}, {}), 2), base, batch)
    assert training_memory(elastic, base, batch).peak == two.peak


def test_without_checkpointing_every_layer_keeps_its_adapted_experts() -> None:
    """24 layers × 32 experts × 3 × 2880² weights in bf16: 35.6 GiB, of which checkpointing needs one layer's."""
    base = json.loads((GPU_TESTS / "gpt_oss_20b_config.json").read_text(encoding="utf-8"))
    batch = BatchShape(1, 64, 8)
    peaks = [
        training_memory(config_of({}, {"lora": {"experts": True}, "gradient_checkpointing": on}), base, batch).peak
        for on in (False, True)
    ]
    assert (peaks[0] - peaks[1]) / GIB == pytest.approx(35.6 * 23 / 24, rel=0.03)


def test_short_rows_are_planned_as_long_as_flex_attention_makes_them() -> None:
    """64 rows of 130 tokens are batches of 256; with eager attention they stay as they are."""
    base = json.loads((GPU_TESTS / "gpt_oss_20b_config.json").read_text(encoding="utf-8"))
    short, padded = BatchShape(64, 130, 60), BatchShape(64, 256, 60)
    flex, eager = config_of({}, {}), config_of({"attention_implementation": "eager"}, {})
    assert training_memory(flex, base, short, short) == training_memory(flex, base, padded, padded)
    assert training_memory(eager, base, short).peak < training_memory(eager, base, padded).peak


def test_held_out_rows_that_are_longer_than_training_rows_count() -> None:
    """A batch of 16 held-out rows of 8,192 tokens with labels at all places, beside short training rows."""
    base = json.loads((GPU_TESTS / "gpt_oss_20b_config.json").read_text(encoding="utf-8"))
    config = config_of({}, {})
    short, long = BatchShape(16, 128, 32), BatchShape(16, 8192, 8192)
    without, with_heldout = (training_memory(config, base, short, heldout) for heldout in (None, long))
    assert with_heldout.heldout == 16 * 8192 * 201_088 * 10
    assert with_heldout.peak - without.weights - without.state == with_heldout.heldout
    # Held-out rows like the training rows take less than these: nothing is kept for a backward pass.
    assert training_memory(config, base, short, short).peak == without.peak


def test_there_are_measurements() -> None:
    assert len(MEASURED) >= 14


@pytest.mark.parametrize(
    ("rows", "length", "layers", "lora"),
    [
        (1, 256, 2, {}),
        (3, 128, 2, {}),
        (1, 512, 4, {}),
        (1, 256, 4, {"last_layers": 1}),
        (1, 128, 3, {"experts": True}),
        (2, 128, 4, {"experts": True, "last_layers": 2}),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_activations_are_what_autograd_saves(
    rows: int, length: int, layers: int, lora: dict[str, Any], precision: str
) -> None:
    """Within 15 %: a LoRA model of another shape than 20B's, with eager attention, on a CPU."""
    base = transformers.GptOssConfig(
        num_hidden_layers=layers,
        hidden_size=192,
        intermediate_size=128,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=64,
        num_local_experts=8,
        num_experts_per_tok=4,
        vocab_size=64,
    )
    config = config_of({}, {"precision": precision, "lora": {"rank": 4} | lora}, use_gpu=False)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    model = transformers.GptOssForCausalLM._from_config(base, dtype=dtype, attn_implementation="eager")
    model.set_experts_implementation("grouped_mm")
    adapted = peft.get_peft_model(model, lora_config(config.training.lora, layers)).train()
    ids = torch.randint(0, 64, (rows, length))
    cast = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
    with cast:
        saved = _saved_bytes(adapted, ids)
    batch = BatchShape(rows, length, 0)
    size = dtype.itemsize
    scores = rows * base.num_attention_heads * length**2 * size
    adapted_layers = lora.get("last_layers", layers)
    # On a CPU, weights under adapters are planned in fp32 whatever the precision of the run.
    copies = 4 * 3 * base.hidden_size * base.intermediate_size * base.num_local_experts if "experts" in lora else 0
    of_a_layer = layer_activations(config, base.to_dict(), batch) + SCORE_COPIES * scores
    kept = training_memory(config, base.to_dict(), batch).activations
    assert kept == adapted_layers * of_a_layer + (adapted_layers - 1) * copies
    assert adapted_layers * (of_a_layer + copies * size // 4) == pytest.approx(saved, rel=0.15)


def _saved_bytes(model: Any, ids: torch.Tensor) -> int:
    """Bytes of the distinct tensors that one forward pass saves for the backward pass, without weights."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    storages: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(input_ids=ids, use_cache=False, logits_to_keep=1).logits.float().sum()
    assert loss.requires_grad
    return sum(storage.nbytes() for storage in storages.values())
