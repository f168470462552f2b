"""Patches for defects of NeMo 2.7.3 and Megatron-Core 0.15 with GPT-OSS. Apply them before a model config is created.

jobs.nemo.setup.patched applies them, whether NeMo was imported before or not. Each patch is applied only if the
installed code has the defect. A setting avoids the other defects; they are corrected where the setting is made:

- The attention window is one token too long: `window_size_for_nemo` in connectors/model_config.py.
- YaRN's attention factor is divided out: `YARN_MSCALE` in connectors/model_config.py.
- No Megatron groups are created in an existing process group: `use_existing_process_group` in process_group.py.
- A resumed run evaluates at the wrong steps: `ResumedStepCounts` in callbacks.py.
- Inference on several ranks loads only a part of the adapters: `ckpt_parallel_load` in generation.py.
- The progress bar hangs gloo groups, and asynchronous checkpoints cannot be reported: nemo_recipe_values.py in
  tuneyard.planning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from jobs.nemo.connectors.old_module_names import accept_old_names
from tuneyard.core.errors import MissingDependencyError

KNOWN_VERSIONS = {"nemo-toolkit": ("2.6.", "2.7."), "megatron-core": ("0.15.",)}
"""Version prefixes of each package that the patches were written for."""


@dataclass(frozen=True, slots=True)
class UpstreamFix:
    """A defect in NeMo or Megatron-Core, and the patch for it."""

    name: str
    symptom: str
    """The error or behaviour that users see without the patch."""

    location: str
    """File and line of the defect."""

    versions: str
    """Versions that have the defect."""

    is_needed: Callable[[], bool]
    """True if the installed code has the defect."""

    apply: Callable[[], None]
    """Patches the installed code in this process."""


def apply_fixes(leave_out: str | None = None) -> list[str]:
    """Applies all patches that are needed and returns their names. Also accepts module names of older checkpoints.

    `leave_out` names a patch that is not applied, so that a test can show its symptom. Raises MissingDependencyError
    for versions that the patches were not written for.
    """
    check_versions()
    accept_old_names()
    applied = []
    for fix in FIXES:
        if fix.name != leave_out and fix.is_needed():
            fix.apply()
            applied.append(fix.name)
    return applied


def check_versions() -> None:
    """Raises MissingDependencyError if NeMo or Megatron-Core is missing or its version is not in KNOWN_VERSIONS."""
    for package, known in KNOWN_VERSIONS.items():
        try:
            installed = metadata.version(package)
        except metadata.PackageNotFoundError as e:
            raise MissingDependencyError(
                f"The package {package} is not installed, and NeMo needs it. Create NeMo's environment: make nemo-env"
            ) from e
        if not installed.startswith(known):
            expected = " or ".join(f"{prefix}x" for prefix in known)
            raise MissingDependencyError(
                f"{package} {installed} is installed. Tuneyard's patches were written for {expected} and could break "
                "other versions. Install the versions of constraints/nemo.txt: make nemo-env"
            )


def _has_two_quick_gelus() -> bool:
    from megatron.core import activations
    from megatron.core.transformer import transformer_config

    return activations.quick_gelu is not transformer_config.quick_gelu


def _use_one_quick_gelu() -> None:
    from megatron.core import activations
    from megatron.core.fusions import fused_bias_geglu
    from megatron.core.transformer import mlp, transformer_config
    from megatron.core.transformer.moe import experts

    # Not the other way round: NeMo's config class keeps the function of `activations` that it had at its import.
    # Checkpoints name either function, by the module that it is in.
    for module in (fused_bias_geglu, transformer_config, mlp, experts):
        module.quick_gelu = activations.quick_gelu


def _has_no_transformer_engine() -> bool:
    from importlib.util import find_spec

    return find_spec("transformer_engine") is None


def _skip_single_rank_reductions() -> None:
    from megatron.core.tensor_parallel import layers

    reduce = layers.reduce_from_tensor_model_parallel_region

    def reduce_over_several_ranks(tensor: Any, group: Any = None) -> Any:
        return tensor if group is not None and group.size() == 1 else reduce(tensor, group=group)

    layers.reduce_from_tensor_model_parallel_region = reduce_over_several_ranks


def _router_gemm_is_undefined() -> bool:
    from megatron.core.transformer.moe import moe_utils

    return not hasattr(moe_utils, "te_general_gemm")


def _let_router_use_torch() -> None:
    from megatron.core.transformer.moe import moe_utils

    moe_utils.te_general_gemm = None


def _mark_transformer_engine_as_missing_in_peft() -> None:
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

    reset_weight = Router.reset_parameters

    def reset_weight_and_bias(self: Any) -> None:
        reset_weight(self)
        if self.bias is not None and self.config.perform_initialization:
            self.bias.data.zero_()

    Router.reset_parameters = reset_weight_and_bias


def _sinks_are_uninitialised() -> bool:
    import inspect

    from megatron.core.transformer.dot_product_attention import DotProductAttention

    source = inspect.getsource(DotProductAttention.__init__)
    return "softmax_offset" in source and "init_method(self.softmax_offset" not in source


def _initialise_sinks() -> None:
    import torch
    from megatron.core.transformer.dot_product_attention import DotProductAttention

    initialise = DotProductAttention.__init__

    def initialise_with_sinks(self: Any, *args: Any, **kwargs: Any) -> None:
        initialise(self, *args, **kwargs)
        if isinstance(getattr(self, "softmax_offset", None), torch.nn.Parameter):
            self.softmax_offset.data.zero_()

    DotProductAttention.__init__ = initialise_with_sinks


def _adapters_need_all_layers() -> bool:
    import inspect

    from nemo.lightning.pytorch.callbacks.peft import AdapterWrapper

    source = inspect.getsource(AdapterWrapper.sharded_state_dict)
    return 'self.adapter.sharded_state_dict(f"{prefix}adapter.", sharded_offsets' in source


def _save_adapters_of_some_layers_by_layer() -> None:
    """Adapters of all layers are saved as before, so that earlier checkpoints and NeMo's own scripts fit."""
    from megatron.core.dist_checkpointing.utils import replace_prefix_for_sharding
    from nemo.collections.llm.peft.lora import LoRA
    from nemo.lightning.pytorch.callbacks.peft import AdapterWrapper

    add_adapter, sharded_state_dict = LoRA.transform, AdapterWrapper.sharded_state_dict

    def add_marked_adapter(self: Any, m: Any, name: str | None = None, prefix: str | None = None) -> Any:
        adapted = add_adapter(self, m, name, prefix)
        if adapted is not m and isinstance(adapted, AdapterWrapper):
            adapted.is_saved_by_layer = any("layers." in target for target in self.target_modules or ())
        return adapted

    def sharded_state_dict_by_layer(
        self: Any, prefix: str = "", sharded_offsets: Any = (), metadata: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        if not sharded_offsets or not getattr(self, "is_saved_by_layer", False):
            result: dict[str, Any] = sharded_state_dict(self, prefix, sharded_offsets, metadata)
            return result
        ((_, layer, _),) = sharded_offsets
        adapter = self.adapter.sharded_state_dict(f"{prefix}adapter.", (), metadata)
        replace_prefix_for_sharding(adapter, f"{prefix}adapter.", f"{prefix}adapter.layer_{layer}.")
        return {**self.to_wrap.sharded_state_dict(prefix, sharded_offsets, metadata), **adapter}

    LoRA.transform = add_marked_adapter
    AdapterWrapper.sharded_state_dict = sharded_state_dict_by_layer


FIXES = (
    UpstreamFix(
        name="two quick_gelu functions",
        symptom='GPTOSSConfig20B() raises "When bias_activation_fusion is True, activation function should be …"',
        location="nemo/collections/llm/gpt/model/gpt_oss.py imports megatron.core.activations.quick_gelu; "
        "megatron/core/transformer/transformer_config.py compares it with fused_bias_geglu.quick_gelu by identity",
        versions="megatron-core 0.15",
        is_needed=_has_two_quick_gelus,
        apply=_use_one_quick_gelu,
    ),
    UpstreamFix(
        name="reduction over a single rank",
        symptom="RuntimeError: Output 0 of _ReduceFromModelParallelRegionBackward is a view and is being modified "
        "inplace, with Megatron's own experts and a bias",
        location="megatron/core/transformer/mlp.py adds the bias in place to the view that a reduction over one rank "
        "returns",
        versions="megatron-core 0.15, without TransformerEngine",
        is_needed=_has_no_transformer_engine,
        apply=_skip_single_rank_reductions,
    ),
    UpstreamFix(
        name="router without TransformerEngine",
        symptom="NameError: name 'te_general_gemm' is not defined, in the router's forward",
        location="megatron/core/transformer/moe/moe_utils.py:958 uses a name that is defined only if an import "
        "succeeded",
        versions="megatron-core 0.15, without TransformerEngine",
        is_needed=_router_gemm_is_undefined,
        apply=_let_router_use_torch,
    ),
    UpstreamFix(
        name="LoRA without TransformerEngine",
        symptom="UnavailableError: transformer_engine, when adapters are added",
        location="nemo/collections/llm/peft/lora.py:703 uses te.Linear; peft/utils.py takes import stubs for "
        "TransformerEngine",
        versions="nemo-toolkit 2.6 to 2.7, without TransformerEngine",
        is_needed=_has_no_transformer_engine,
        apply=_mark_transformer_engine_as_missing_in_peft,
    ),
    UpstreamFix(
        name="uninitialised router bias",
        symptom="From random weights, ranks and runs differ: the router's bias is uninitialised memory",
        location="megatron/core/transformer/moe/router.py:55 creates it with torch.empty, and reset_parameters does "
        "not set it",
        versions="megatron-core 0.15",
        is_needed=_router_bias_is_uninitialised,
        apply=_initialise_router_bias,
    ),
    UpstreamFix(
        name="uninitialised attention sinks",
        symptom="From random weights, ranks and runs differ: the attention sinks are uninitialised memory",
        location="megatron/core/transformer/dot_product_attention.py:121 creates them with torch.empty",
        versions="megatron-core 0.15",
        is_needed=_sinks_are_uninitialised,
        apply=_initialise_sinks,
    ),
    UpstreamFix(
        name="adapters on some layers",
        symptom="CheckpointingException: Invalid access pattern, at the first save with LoRA on some of the layers",
        location="nemo/lightning/pytorch/callbacks/peft.py:448 saves an adapter as its layer's part of one tensor with "
        "an axis of all layers, and parts are missing",
        versions="nemo-toolkit 2.6 to 2.7",
        is_needed=_adapters_need_all_layers,
        apply=_save_adapters_of_some_layers_by_layer,
    ),
)
"""All patches, in the order in which they are applied."""
