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
    from jobs.nemo.fixes import apply_fixes
    from tests.nemo import cpu_shim

    os.environ["HF_HUB_OFFLINE"] = "1"
    if not torch.cuda.is_available():
        cpu_shim.install()
    # Modules that import NeMo import this one to apply all fixes.
    sys.modules["jobs.nemo.setup.patched"] = types.ModuleType("jobs.nemo.setup.patched")
    apply_fixes(leave_out=sys.argv[1])
    scenarios = {"config": _config, "uninitialised": _uninitialised, "step": _step, "lora": _lora}
    print("OUTCOMES " + json.dumps({name: _outcome(scenario) for name, scenario in scenarios.items()}))


def _outcome(scenario: Callable[[], Any]) -> str:
    from nemo.utils.import_utils import UnavailableError

    try:
        return str(scenario())
    except (RuntimeError, ValueError, NameError, ImportError, UnavailableError) as e:
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
    import lightning.pytorch as pl
    from nemo.collections import llm

    base = _model()
    base.trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    model = llm.peft.LoRA(target_modules=["linear_qkv", "linear_proj"], dim=4, alpha=8)(base)
    return "ok" if any("adapter" in name for name, _ in model.named_parameters()) else "no adapter"


if __name__ == "__main__":
    main()
