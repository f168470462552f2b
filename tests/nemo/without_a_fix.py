"""Runs NeMo with all fixes but one and prints the outcome of each scenario as JSON; needs a separate process.

python -m tests.nemo.without_a_fix "two quick_gelu functions"
"""

from __future__ import annotations

import json
import os
import sys
import types
from collections.abc import Callable
from typing import Any

import torch


def main() -> None:
    """The argument is the name of the fix to leave out; `nothing` applies all."""
    from jobs.nemo.cpu import cpu_shim
    from jobs.nemo.fixes import apply_fixes

    os.environ["HF_HUB_OFFLINE"] = "1"
    if not torch.cuda.is_available():
        cpu_shim.install()
    # Modules that import NeMo import this one to apply all fixes.
    sys.modules["jobs.nemo.setup.patched"] = types.ModuleType("jobs.nemo.setup.patched")
    apply_fixes(leave_out=sys.argv[1])
    scenarios = {
        "config": _config,
        "uninitialised": _uninitialised,
        "step": _step,
        "lora": _lora,
        "save": _save_adapters_on_one_layer,
    }
    print("OUTCOMES " + json.dumps({name: _outcome(scenario) for name, scenario in scenarios.items()}))


def _outcome(scenario: Callable[[], Any]) -> str:
    from megatron.core.dist_checkpointing.core import CheckpointingException
    from nemo.utils.import_utils import UnavailableError

    try:
        return str(scenario())
    except (RuntimeError, ValueError, NameError, ImportError, UnavailableError, CheckpointingException) as e:
        return f"{type(e).__name__}: {e}"


def _config() -> str:
    from nemo.collections import llm

    from jobs.nemo.connectors.model_config import WITHOUT_TRANSFORMER_ENGINE

    return type(llm.GPTOSSConfig20B(**WITHOUT_TRANSFORMER_ENGINE)).__name__


def _model() -> Any:
    """An initialised GPTOSSModel with two layers, on one rank."""
    import torch.distributed as dist
    from megatron.core import parallel_state, tensor_parallel
    from nemo.collections.llm import GPTOSSModel

    from jobs.nemo.connectors.model_config import model_config

    if not dist.is_initialized():
        dist.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
        parallel_state.initialize_model_parallel()
        tensor_parallel.model_parallel_cuda_manual_seed(1)
    rope = {"factor": 32.0, "original_max_position_embeddings": 64, "beta_fast": 32.0, "beta_slow": 1.0}
    source = {
        "num_hidden_layers": 2,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "vocab_size": 64,
        "sliding_window": 8,
        "max_position_embeddings": 128,
        "rope_theta": 150000.0,
        "rope_scaling": rope,
    }
    model = GPTOSSModel(model_config(source, use_cpu_initialization=True))
    model.configure_model()
    return model


def _uninitialised() -> list[str]:
    """Names of uninitialised parameters; torch.empty is set to return NaN, so they contain NaN."""
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        names = [name for name, value in _model().named_parameters() if value.isnan().any()]
    finally:
        torch.use_deterministic_algorithms(False)
    return sorted({name.rsplit(".", 1)[-1] if "router" not in name else "router.bias" for name in names})


def _step() -> str:
    model = _model()
    tokens = torch.arange(16)[None]
    model(tokens, tokens, attention_mask=None).float().logsumexp(-1).sum().backward()
    return "ok"


def _lora() -> str:
    model = _adapted(["linear_qkv", "linear_proj"])
    return "ok" if any("adapter" in name for name, _ in model.named_parameters()) else "no adapter"


def _save_adapters_on_one_layer() -> str:
    """Saves the adapters of the second layer and loads them into another model."""
    import tempfile

    from megatron.core import dist_checkpointing

    targets = ["*.layers.1.*.linear_qkv", "*.layers.1.*.linear_proj"]
    saved, loaded = _adapted(targets), _adapted(targets)
    adapters = {name for name, _ in saved.module.named_parameters() if ".adapter." in name}
    with tempfile.TemporaryDirectory() as folder:
        dist_checkpointing.save(_sharded(saved, adapters), folder)
        tensors = dist_checkpointing.load(_sharded(loaded, adapters), folder)
    expected = saved.module.state_dict()
    equal = all(torch.equal(tensors[name], expected[name]) for name in adapters)
    return "ok" if equal and len(adapters) == 4 else "the loaded adapters differ"


def _sharded(model: Any, names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in model.module.sharded_state_dict().items() if name in names}


def _adapted(target_modules: list[str]) -> Any:
    import lightning.pytorch as pl
    from nemo.collections import llm

    base = _model()
    base.trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    return llm.peft.LoRA(target_modules=target_modules, dim=4, alpha=8)(base)


if __name__ == "__main__":
    main()
