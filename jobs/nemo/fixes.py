"""What is wrong in NeMo 2.7.3 and Megatron-Core 0.15 for GPT-OSS, each with its mend. Import before nemo.collections.

A fix is applied only where its fault is found; versions that were never looked at are refused. Faults that a setting
avoids, rather than a patch, are mended where that setting is; `jobs/NEMO.md` lists them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from tuneyard.core.errors import MissingDependencyError

KNOWN_VERSIONS = {"nemo-toolkit": ("2.6.", "2.7."), "megatron-core": ("0.15.",)}


@dataclass(frozen=True, slots=True)
class UpstreamFix:
    """A fault upstream: what one sees, where it lies, in which versions, and its mend.

    `is_needed` looks at the installed code; `apply` changes it in this process.
    """

    name: str
    symptom: str
    location: str
    versions: str
    is_needed: Callable[[], bool]
    apply: Callable[[], None]


def apply_fixes(leave_out: str | None = None) -> list[str]:
    """Applies what is needed; returns the names. Raises MissingDependencyError for unknown versions.

    `leave_out` names one to do without, to see its symptom.
    """
    check_versions()
    applied = []
    for fix in FIXES:
        if fix.name != leave_out and fix.is_needed():
            fix.apply()
            applied.append(fix.name)
    return applied


def check_versions() -> None:
    """Raises MissingDependencyError unless NeMo and Megatron-Core are of versions that the fixes were made for."""
    for package, known in KNOWN_VERSIONS.items():
        try:
            found = metadata.version(package)
        except metadata.PackageNotFoundError as e:
            raise MissingDependencyError(
                f"NeMo needs the package {package}. Make its environment: make nemo-env"
            ) from e
        if not found.startswith(known):
            wanted = " or ".join(f"{prefix}x" for prefix in known)
            raise MissingDependencyError(
                f"{package} {found} is installed; Tuneyard's fixes were made for {wanted} and might break another. "
                "Install the versions of constraints/nemo.txt: make nemo-env"
            )


def _activation_differs() -> bool:
    from megatron.core import activations
    from megatron.core.fusions import fused_bias_geglu

    return activations.quick_gelu is not fused_bias_geglu.quick_gelu


def _unify_activation() -> None:
    from megatron.core import activations
    from megatron.core.fusions import fused_bias_geglu

    activations.quick_gelu = fused_bias_geglu.quick_gelu


def _has_no_transformer_engine() -> bool:
    from importlib.util import find_spec

    return find_spec("transformer_engine") is None


def _skip_reductions_over_one_rank() -> None:
    from megatron.core.tensor_parallel import layers

    reduce = layers.reduce_from_tensor_model_parallel_region

    def reduce_over_more_than_one(tensor: Any, group: Any = None) -> Any:
        return tensor if group is not None and group.size() == 1 else reduce(tensor, group=group)

    layers.reduce_from_tensor_model_parallel_region = reduce_over_more_than_one


def _router_has_no_gemm() -> bool:
    from megatron.core.transformer.moe import moe_utils

    return not hasattr(moe_utils, "te_general_gemm")


def _give_router_torchs_gemm() -> None:
    from megatron.core.transformer.moe import moe_utils

    moe_utils.te_general_gemm = None


def _tell_lora_that_there_is_no_transformer_engine() -> None:
    import types

    from nemo.collections.llm.peft import lora, module_matcher, utils

    lora.te = types.SimpleNamespace(Linear=type("NoTransformerEngineLinear", (), {}))
    utils.HAVE_TE = module_matcher.HAVE_TE = False


def _router_bias_is_uninitialised() -> bool:
    import inspect

    from megatron.core.transformer.moe.router import Router

    return "torch.empty((self.config.num_moe_experts)" in inspect.getsource(Router.__init__)


def _initialise_router_bias() -> None:
    from megatron.core.transformer.moe.router import Router

    reset = Router.reset_parameters

    def reset_bias_too(self: Any) -> None:
        reset(self)
        if self.bias is not None and self.config.perform_initialization:
            self.bias.data.zero_()

    Router.reset_parameters = reset_bias_too


def _sinks_are_uninitialised() -> bool:
    import inspect

    from megatron.core.transformer.dot_product_attention import DotProductAttention

    source = inspect.getsource(DotProductAttention.__init__)
    return "softmax_offset" in source and "init_method(self.softmax_offset" not in source


def _initialise_sinks() -> None:
    import torch
    from megatron.core.transformer.dot_product_attention import DotProductAttention

    initialise = DotProductAttention.__init__

    def initialise_sinks_too(self: Any, *args: Any, **kwargs: Any) -> None:
        initialise(self, *args, **kwargs)
        if isinstance(getattr(self, "softmax_offset", None), torch.nn.Parameter):
            self.softmax_offset.data.zero_()

    DotProductAttention.__init__ = initialise_sinks_too


FIXES = (
    UpstreamFix(
        name="one quick_gelu",
        symptom='GPTOSSConfig20B() raises "When bias_activation_fusion is True, activation function should be …"',
        location="nemo/collections/llm/gpt/model/gpt_oss.py imports megatron.core.activations.quick_gelu; "
        "megatron/core/transformer/transformer_config.py compares with fused_bias_geglu.quick_gelu by identity",
        versions="megatron-core 0.15",
        is_needed=_activation_differs,
        apply=_unify_activation,
    ),
    UpstreamFix(
        name="no reduction over one rank",
        symptom="RuntimeError: Output 0 of _ReduceFromModelParallelRegionBackward is a view and is being modified "
        "inplace, with Megatron's own experts and a bias",
        location="megatron/core/transformer/mlp.py adds the bias in place to a no-op reduction's view",
        versions="megatron-core 0.15, without TransformerEngine",
        is_needed=_has_no_transformer_engine,
        apply=_skip_reductions_over_one_rank,
    ),
    UpstreamFix(
        name="router without TransformerEngine",
        symptom="NameError: name 'te_general_gemm' is not defined, in the router's forward",
        location="megatron/core/transformer/moe/moe_utils.py:958 asks for a name that a failed import never bound",
        versions="megatron-core 0.15, without TransformerEngine",
        is_needed=_router_has_no_gemm,
        apply=_give_router_torchs_gemm,
    ),
    UpstreamFix(
        name="LoRA without TransformerEngine",
        symptom="UnavailableError: transformer_engine, when adapters are put on",
        location="nemo/collections/llm/peft/lora.py:703 asks for te.Linear; peft/utils.py takes stubs for the real one",
        versions="nemo-toolkit 2.6 to 2.7, without TransformerEngine",
        is_needed=_has_no_transformer_engine,
        apply=_tell_lora_that_there_is_no_transformer_engine,
    ),
    UpstreamFix(
        name="router bias",
        symptom="from random weights, ranks and runs differ: the router's bias is whatever lay in memory",
        location="megatron/core/transformer/moe/router.py:55, torch.empty, and reset_parameters leaves it",
        versions="megatron-core 0.15",
        is_needed=_router_bias_is_uninitialised,
        apply=_initialise_router_bias,
    ),
    UpstreamFix(
        name="attention sinks",
        symptom="from random weights, ranks and runs differ: the sinks are whatever lay in memory",
        location="megatron/core/transformer/dot_product_attention.py:121, torch.empty",
        versions="megatron-core 0.15",
        is_needed=_sinks_are_uninitialised,
        apply=_initialise_sinks,
    ),
)
