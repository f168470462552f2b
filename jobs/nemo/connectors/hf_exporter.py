"""Exports a NeMo 2 checkpoint to Hugging Face format."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import tenacity
import torch
from nemo.collections.llm import GPTOSSConfig
from nemo.collections.llm.gpt.model import gpt_oss
from nemo.lightning import io
from nemo.lightning.io.state import TransformFns

import jobs.nemo.setup.patched
from jobs.nemo.connectors.expert_tensors import expert_export_transforms
from jobs.nemo.connectors.hf_importer import HF_EXPERT_TENSORS
from jobs.nemo.connectors.model_config import hf_config
from jobs.nemo.connectors.tensor_names import NemoTensorNames, hf_to_nemo_names


class HFExporter(gpt_oss.HFGPTOSSExporter):
    """Exporter for a NeMo 2 folder. Experts are not quantised, and all sizes are the model's own."""

    trust_remote_code = False

    @cached_property
    def config(self) -> Any:
        source: GPTOSSConfig = io.load_context(str(self), subpath="model.config")
        return hf_config(source)

    @tenacity.retry(
        retry=tenacity.retry_if_exception_type(torch.distributed.DistNetworkError),
        stop=tenacity.stop_after_attempt(3),
        reraise=True,
    )
    def nemo_load(self, path: Path, trainer: Any = None, cpu: bool = True) -> tuple[Any, Any]:
        """See NeMo's. Tries another port if the one that was found for the process group has been taken meanwhile."""
        os.environ.pop("MASTER_PORT", None)
        loaded: tuple[Any, Any] = super().nemo_load(path, trainer, cpu)
        return loaded

    def convert_state(self, source: Any, target: Any) -> Any:
        """Renames and reshapes all tensors of the NeMo model `source` into the transformers model `target`.

        Returns `target`, in the dtype that it had.
        """
        names = NemoTensorNames.from_model(source)
        transforms = [
            io.state_transform(
                source_key=f"**.self_attention.linear_qkv.{kind}",
                target_key=tuple(f"**.self_attn.{name}_proj.{kind}" for name in "qkv"),
                fn=split,
            )
            for kind, split in (("weight", TransformFns.split_qkv), ("bias", TransformFns.split_qkv_bias))
        ]
        transforms += expert_export_transforms(HF_EXPERT_TENSORS, names)
        mapping = {nemo: hf for hf, nemo in hf_to_nemo_names(names).items()}
        dtype = next(iter(target.state_dict().values())).dtype
        return io.apply_transforms(source, target, mapping=mapping, transforms=transforms, cast_dtype=dtype)
