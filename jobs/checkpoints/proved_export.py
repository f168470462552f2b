"""Exports a trained checkpoint to Hugging Face format, proves that it is the trained model, and publishes it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jobs.checkpoints.probe_rows import limit_places
from jobs.training.backend import TrainingBackend
from jobs.training.logit_proof import check_proof, compare_logits
from tuneyard.checkpoints.manifest import CheckpointManifest
from tuneyard.checkpoints.manifest_writer import software_versions, write_manifest
from tuneyard.checkpoints.publishing import publish, staged, version_in
from tuneyard.checkpoints.validation import validate_adapter, validate_hf_checkpoint
from tuneyard.cluster.connection import CHECKOUT
from tuneyard.configs.finetune import FinetuneConfig

if TYPE_CHECKING:
    import numpy as np

ExportForm = Literal["merged", "adapter"]
"""`merged`: a whole model. `adapter`: PEFT's files, for a run with LoRA."""

SOFTWARE = ("tuneyard", "ray", "torch", "transformers", "peft", "openai-harmony")
NEMO_SOFTWARE = ("nemo-toolkit", "megatron-core", "transformer-engine")
"""Packages whose versions the manifest holds."""


def export_and_prove(
    backend: TrainingBackend,
    config: FinetuneConfig,
    trained: Path,
    target: str,
    probe_rows: list[dict[str, list[int]]],
    lineage: dict[str, Any],
    form: ExportForm = "merged",
) -> CheckpointManifest:
    """Exports `trained` (a folder that the backend reported), proves it, and publishes it at the location `target`.

    The proof: the reloaded export gives the trained model's logits on `probe_rows`, at PROBE_PLACES of them at most;
    names, shapes, dtypes and hashes are right; and at least one weight differs from the base. An adapter is reloaded by
    plain PEFT, on the base.
    `lineage` holds more fields of the manifest. Raises CheckpointError when the proof fails and StorageFullError when
    the disk is full; nothing appears at `target` then.
    """
    is_adapter, base = form == "adapter", config.model.folder
    probe_rows = limit_places(probe_rows)
    lineage = {"config": config.model_dump(mode="json")} | lineage
    with staged(target) as staging:
        if is_adapter:
            from jobs.training.export.adapter_files import name_base

            trained_logits = backend.export_adapter(config, trained, staging, probe_rows)
            name_base(staging, lineage["config"]["model"]["base"])
            reloaded_logits = _adapted_logits(base, staging, probe_rows)
        else:
            trained_logits = backend.export_hf(config, trained, staging, probe_rows)
            reloaded_logits = _reloaded_logits(staging, probe_rows)
        proof = compare_logits(trained_logits, reloaded_logits)
        check_proof(proof)
        write_manifest(
            staging,
            kind="adapter" if is_adapter else "finetuned",
            name=exported_name(config, form),
            version=version_in(target),
            proof=proof,
            software=software_versions(*SOFTWARE, *(NEMO_SOFTWARE if config.training.backend == "nemo" else ())),
            git_commit=_git_commit(),
            **lineage,
        )
        manifest = validate_adapter(staging, base) if is_adapter else validate_hf_checkpoint(staging, base)
        publish(staging, target)
    return manifest


def exported_name(config: FinetuneConfig, form: ExportForm) -> str:
    """The export's name in the registry. An adapter has one of its own: `MODEL@newest` is what gets deployed."""
    return config.run.adapter_name if form == "adapter" else config.run.model_name


def _reloaded_logits(folder: Path, rows: list[dict[str, list[int]]]) -> list[np.ndarray]:
    """The export's logits on the probe rows, loaded with plain transformers in the dtype of its config.

    It computes in fp32 on the stored weights, so that the proof compares checkpoints and not kernels.
    """
    import torch
    import transformers

    from jobs.training.label_logits import label_logits

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    return label_logits(model.to(torch.float32).eval(), rows)


def _adapted_logits(base: Path, adapter: Path, rows: list[dict[str, list[int]]]) -> list[np.ndarray]:
    """The logits of the base with the adapter on it, in fp32, loaded with plain transformers and PEFT."""
    import peft
    import torch

    from jobs.training.label_logits import label_logits
    from jobs.training.model_loading import load_dequantised

    model = peft.PeftModel.from_pretrained(load_dequantised(base, torch.float32, on_gpu=False), adapter)
    return label_logits(model.eval(), rows)


def _git_commit() -> str | None:
    """The checkout's commit, with "-dirty" if files were changed; None outside a git checkout."""
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None
